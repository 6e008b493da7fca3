//! TLS to the server, with libpq's five modes, and nothing weaker than what a mode says.
//!
//! | mode | encrypts | chain checked | name checked |
//! |---|---|---|---|
//! | `disable` | no | – | – |
//! | `prefer` | if the server can | no | no |
//! | `require` | yes | only when a CA file is given | no |
//! | `verify-ca` | yes | yes | no |
//! | `verify-full` | yes | yes | yes |
//!
//! The provider is named explicitly (aws-lc-rs): with two providers in the tree, rustls' default
//! constructor panics.

use super::options::{PgOptions, TlsMode};
use crate::error::{Error, Result, codes};
use crate::source::tls::{ChainOnly, Unverified};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// The client configuration of these options; `None` for `disable`.
///
/// Errors: PG015 when the CA file cannot be read or the system has no CA certificates.
pub fn client_config(options: &PgOptions) -> Result<Option<Arc<ClientConfig>>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (options.tls, &options.ca) {
        (TlsMode::Disable, _) => return Ok(None),
        (TlsMode::Prefer, _) | (TlsMode::Require, None) => Arc::new(Unverified::new(&provider)),
        (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => {
            Arc::new(ChainOnly::new(chain_verifier(options, &provider)?))
        }
        (TlsMode::VerifyFull, _) => chain_verifier(options, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| refused("TLS cannot be set up").with_source(e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &options.identity {
        None => config.with_no_client_auth(),
        Some((certificate, own_key)) => {
            let (chain, key) = own_identity(certificate, own_key)?;
            config.with_client_auth_cert(chain, key).map_err(|e| {
                refused(format!(
                    "the certificate \"{}\" cannot be used with the key \"{}\"",
                    certificate.display(),
                    own_key.display()
                ))
                .with_source(e)
            })?
        }
    };
    config.alpn_protocols = Vec::new();
    Ok(Some(Arc::new(config)))
}

/// Our own certificate chain and its key.
fn own_identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let unreadable =
        |what: &str, path: &Path| refused(format!("the {what} \"{}\" cannot be read", path.display()));
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable("certificate", certificate).with_source(e))?;
    if chain.is_empty() {
        return Err(unreadable("certificate", certificate));
    }
    let own_key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable("key", key).with_source(e))?;
    Ok((chain, own_key))
}

/// The name that the certificate must bear, from the host as the user wrote it.
pub fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|e| refused(format!("\"{host}\" cannot be the name in a certificate")).with_source(e))
}

/// A handshake failed: what that means for a person.
pub fn handshake_error(options: &PgOptions, cause: std::io::Error) -> Error {
    let text = cause.to_string();
    let advice = if text.contains("UnknownIssuer") {
        "the CA that signed the server's certificate is not trusted: set tls.ca (sslrootcert) to its file"
    } else if text.contains("NotValidForName") || text.contains("not valid for name") {
        "connect by a name that the certificate bears, or use verify-ca if you trust every host of this CA"
    } else if text.contains("xpired") {
        "renew the server's certificate"
    } else if text.contains("CertificateRequired") || text.contains("received fatal alert") {
        "the server does not take our certificate, or wants one: set tls.cert and tls.key (sslcert, sslkey)"
    } else {
        "check the server's certificate; sslmode is \"{}\""
    };
    refused(format!("the TLS handshake with \"{}\" failed", options.target()))
        .with_source(cause)
        .with_try(advice.replace("{}", options.tls.name()))
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(codes::PG015, message)
}

fn chain_verifier(options: &PgOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &options.ca {
        let unreadable = || refused(format!("the CA file \"{}\" cannot be read", path.display()));
        for item in CertificateDer::pem_file_iter(path).map_err(|e| unreadable().with_source(e))? {
            let der = item.map_err(|e| unreadable().with_source(e))?;
            roots.add(der).map_err(|e| unreadable().with_source(e))?;
        }
        if roots.is_empty() {
            return Err(refused(format!("the CA file \"{}\" holds no certificate", path.display())));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _unusable) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(refused("the system has no CA certificates")
                .with_try("install ca-certificates, or set tls.ca (sslrootcert) to a file"));
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| refused("the CA certificates cannot be used").with_source(e))
}

/// The `tls-server-end-point` channel binding of RFC 5929: the hash of the server's certificate, by the
/// hash of the certificate's own signature, SHA-256 in place of MD5 and SHA-1. `None` for signatures
/// that name another hash (Ed25519, SHA-512, PSS): then SCRAM goes without binding.
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = match signature_oid(certificate)? {
        // 1.2.840.113549.1.1.{4,5,11,12}: RSA with MD5, SHA-1, SHA-256, SHA-384.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b] => sha256(),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => sha384(),
        // 1.2.840.10045.4.3.{2,3} and 4.1: ECDSA with SHA-256, SHA-384, SHA-1.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => {
            sha256()
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => sha384(),
        _ => None,
    }?;
    Some(hash.hash(certificate).as_ref().to_vec())
}

fn sha256() -> Option<&'static dyn rustls::crypto::hash::Hash> {
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().map(|s| s.common.hash_provider)
}

fn sha384() -> Option<&'static dyn rustls::crypto::hash::Hash> {
    aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384.tls13().map(|s| s.common.hash_provider)
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, … }, signature }`.
fn signature_oid(certificate: &[u8]) -> Option<&[u8]> {
    let (0x30, body, _) = der(certificate)? else { return None };
    let (0x30, _, after) = der(body)? else { return None };
    let (0x30, algorithm, _) = der(after)? else { return None };
    let (0x06, oid, _) = der(algorithm)? else { return None };
    Some(oid)
}

/// One DER element: tag, content, what follows.
fn der(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let digits = usize::from(first & 0x7f);
        if digits == 0 || digits > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(digits)?;
        length = bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_refuses_lengths_beyond_the_input() {
        assert_eq!(der(&[0x30, 0x02, 1, 2, 9]), Some((0x30, &[1u8, 2][..], &[9u8][..])));
        for bad in [&[0x30u8][..], &[0x30, 0x03, 1], &[0x30, 0x80, 1], &[0x30, 0x85, 0, 0, 0, 0, 0], &[]] {
            assert_eq!(der(bad), None, "{bad:?}");
        }
        assert_eq!(server_end_point(&[0x30, 0x00]), None);
    }

    #[test]
    fn hashes_are_the_right_ones() {
        let digest = sha256().map(|h| h.hash(b"abc").as_ref().to_vec()).unwrap_or_default();
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        let digest = sha384().map(|h| h.hash(b"abc").as_ref().to_vec()).unwrap_or_default();
        assert_eq!(digest[..4], [0xcb, 0x00, 0x75, 0x3f]);
    }
}
