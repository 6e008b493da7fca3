//! TLS of the connection for the log, as strict as the driver is with the others ([`super::sql`]).

use super::options::{MyOptions, TlsMode};
use crate::source::tls::{ChainOnly, Unverified};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
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
    // In each mode: a file of authorities that cannot be used is said, also where nothing is verified.
    let full = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let full = full.build().map_err(Error::other)?;
    let verifier: Arc<dyn ServerCertVerifier> = match options.tls {
        TlsMode::VerifyFull => full,
        TlsMode::VerifyCa => Arc::new(ChainOnly::new(full)),
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(Unverified::new(&provider)),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
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
