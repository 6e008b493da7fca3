//! TLS of the connection for the log, as strict as the driver is with the others ([`super::sql`]).

use super::options::{MyOptions, TlsMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Certificate authorities: of a file, or of the system and of Mozilla.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(super) fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    let Some(ca) = ca else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    let bytes = std::fs::read(ca)?;
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(Error::other)?;
    // What is no PEM is one certificate in DER.
    Ok(if found.is_empty() { vec![CertificateDer::from(bytes)] } else { found })
}

/// The client's side of it.
///
/// # Errors
/// A file cannot be read or used.
pub(super) fn client_config(options: &MyOptions) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    if options.ca.is_none() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(authorities(options.ca.as_deref())?);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = Verifier { tls: options.tls, full: verifier.build().map_err(Error::other)? };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &options.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = authorities(Some(certificate))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(Error::other)?;
            config.with_client_auth_cert(chain, key).map_err(Error::other)?
        }
    };
    Ok(Arc::new(config))
}

/// The name that the certificate must bear.
///
/// # Errors
/// It cannot be one.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(Error::other)
}

/// What a mode asks for; that the peer holds its certificate's key is checked in each.
#[derive(Debug)]
struct Verifier {
    tls: TlsMode,
    full: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !matches!(self.tls, TlsMode::VerifyCa | TlsMode::VerifyFull) {
            return Ok(ServerCertVerified::assertion());
        }
        match self.full.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // webpki checks the name last: an error about the name means that all else held.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.tls == TlsMode::VerifyCa => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.full.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.full.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.full.supported_verify_schemes()
    }
}
