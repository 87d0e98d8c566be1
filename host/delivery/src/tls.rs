//! Authorities that certificates of receivers are checked against: those of a file, or the system's.

use std::path::Path;
use std::sync::Arc;

use rostro_common::fs::{bytes_without_mark, read_small};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Returns the certificates of a PEM file, or else of the system.
///
/// # Errors
///
/// One sentence with the remedy.
fn authorities(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs().certs;
        return match found.is_empty() {
            true => Err("this machine has no authorities; name a PEM file with ca_file".to_owned()),
            false => Ok(found),
        };
    };
    let unusable = |cause: String| {
        format!(
            "cannot use ca_file {}: {cause}; name a PEM file with certificates of authorities",
            file.display()
        )
    };
    let bytes = read_small(file).map_err(|error| unusable(error.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes_without_mark(&bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    match found.is_empty() {
        true => Err(unusable("it has no certificate".to_owned())),
        false => Ok(found),
    }
}

/// Returns the TLS configuration of a webhook.
///
/// # Errors
///
/// As [`authorities`].
pub(crate) fn for_webhook(file: Option<&Path>) -> Result<TlsConfig, String> {
    let found = authorities(file)?;
    let roots: RootCerts = found
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .into();
    Ok(TlsConfig::builder().root_certs(roots).build())
}

/// Returns the TLS configuration of an MQTT broker.
///
/// # Errors
///
/// As [`authorities`], or if a certificate is not valid.
pub(crate) fn for_mqtt(file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities(file)?);
    if added == 0 {
        return Err("ca_file has no valid certificate; name another one".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
