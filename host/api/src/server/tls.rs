//! TLS of a port, with a certificate that can be reloaded while the service runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use rostro_common::fs::{bytes_without_mark, read_small};

/// Protocols for ALPN, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS configuration with the certificate of two files. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<LoadedTls>);

struct LoadedTls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

/// Error about a certificate or its key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read the {kind} in {file}: {cause}; it must be PEM", file = file.display())]
    Unreadable {
        /// Kind of the file: certificate or key.
        kind: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Cause of the failure.
        cause: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error(
        "there is no certificate in {file}; it must be PEM, the service's own first and then those \
         that lead to its root",
        file = file.display()
    )]
    None {
        /// Path of the file.
        file: PathBuf,
    },
    /// Certificate and key do not match, or their kind is not supported.
    #[error(
        "the certificate in {file} cannot be used with its key: {cause}",
        file = file.display()
    )]
    Unusable {
        /// Path of the certificate.
        file: PathBuf,
        /// Cause of the failure.
        cause: rustls::Error,
    },
}

impl Tls {
    /// Reads a certificate with its chain, and its private key. Both are PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the file. It quotes no key.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Self(Arc::new(LoadedTls {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config,
        })))
    }

    /// Reads the files again for later connections. The previous certificate stays in use if the
    /// files cannot be used.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0
            .config
            .store(Arc::new(read(&self.0.certificate, &self.0.key)?));
        Ok(())
    }

    /// Performs the handshake of a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.config.load_full())
            .accept(stream)
            .await
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let unreadable = |kind, file: &Path| {
        let file = file.to_owned();
        move |cause| TlsError::Unreadable { kind, file, cause }
    };
    let read = |file: &Path| {
        let bytes = read_small(file).map_err(pem::Error::Io)?;
        Ok::<_, pem::Error>(bytes_without_mark(&bytes).to_vec())
    };
    let chain = read(certificate)
        .and_then(|bytes| CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>())
        .map_err(unreadable("certificate", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::None {
            file: certificate.to_owned(),
        });
    }
    let private = read(key)
        .and_then(|bytes| PrivateKeyDer::from_pem_slice(&bytes))
        .map_err(unreadable("private key", key))?;
    let unusable = |cause| TlsError::Unusable {
        file: certificate.to_owned(),
        cause,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.0.certificate)
            .finish_non_exhaustive()
    }
}
