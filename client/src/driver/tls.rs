//! TLS to a server that proves who it is (RFC 6120 §13.7, RFC 5922): for chat and for voice alike.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Lost, PATIENCE};
use crate::security::Privacy;

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The authorities of the system.
    #[default]
    System,
    /// The authorities in a file of PEM blocks, and no others.
    Pem(Vec<u8>),
}

/// Speaks TLS over a connection with whoever can prove to be `domain`.
pub(super) async fn secure(
    stream: TcpStream,
    domain: &str,
    roots: &Roots,
) -> Result<TlsStream<TcpStream>, Lost> {
    let config = config(roots).map_err(Lost::Certificate)?;
    let name = ServerName::try_from(domain.to_owned())
        .map_err(|error| Lost::Certificate(io::Error::other(error)))?;
    let secured = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream));
    match secured.await {
        Ok(secured) => secured.map_err(Lost::Certificate),
        Err(_) => Err(Lost::Ended("the server does not answer".to_owned())),
    }
}

fn config(roots: &Roots) -> io::Result<ClientConfig> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Roots::Pem(text) => {
            for certificate in CertificateDer::pem_slice_iter(text) {
                store.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// What its version keeps out.
pub(super) fn privacy(stream: &TlsStream<TcpStream>) -> Privacy {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => Privacy::Tls13,
        Some(_) | None => Privacy::Tls12,
    }
}

/// What binds a log-in to this connection (RFC 9266); TLS 1.3 alone has it without further conditions.
pub(super) fn exporter(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let connection = stream.get_ref().1;
    let bound = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let key = [0; 32];
    bound
        .then(|| {
            connection.export_keying_material(key, b"EXPORTER-Channel-Binding", Some(b"")).ok()
        })?
        .map(|key| key.to_vec())
}
