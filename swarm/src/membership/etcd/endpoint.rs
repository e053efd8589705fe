//! Where etcd is, and how it is reached there.

use std::str::FromStr;
use std::sync::Arc;

use hyper::Uri;
use hyper::http::uri::Scheme;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::membership::etcd::error::{EndpointError, TlsError};

/// The port that etcd's clients use.
const PORT: u16 = 2379;

/// One member of an etcd cluster: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// Who it has to prove to be, over TLS.
    pub(super) proves: Option<ServerName<'static>>,
}

/// Whom this node believes over TLS, and what it proves itself with.
#[derive(Clone, Debug)]
pub struct Tls(pub(super) Arc<ClientConfig>);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Form)?;
        let scheme = uri.scheme().ok_or(EndpointError::Form)?;
        let authority = uri.authority().ok_or(EndpointError::Form)?;
        let is_whole = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !is_whole || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(EndpointError::Form);
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => PORT,
            _ => authority.port_u16().ok_or(EndpointError::Form)?,
        };
        // What a socket takes has no brackets, what HTTP says has.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let proves = if *scheme == Scheme::HTTPS {
            let name = ServerName::try_from(bare.to_owned());
            Some(name.map_err(|_| EndpointError::Form)?)
        } else if *scheme == Scheme::HTTP {
            None
        } else {
            return Err(EndpointError::Form);
        };
        Ok(Self {
            host: bare.to_owned(),
            port,
            proves,
        })
    }
}

impl Endpoint {
    /// True if it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.proves.is_some()
    }

    /// What HTTP calls it.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_secure() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Tls {
    /// Believes what `authorities` signed, and proves itself with a certificate and its key if etcd asks; all in PEM.
    pub fn new(authorities: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("file of authorities", authorities)? {
            roots.add(certificate)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match own {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|error| TlsError::Pem("key", error))?;
                config.with_client_auth_cert(certificates("certificate", certificate)?, key)?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| TlsError::Pem(what, error))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(what));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Tls};

    #[test]
    fn a_place_of_etcd_is_a_url_without_a_path() {
        for (text, shown, secure) in [
            ("http://10.0.0.1:2379", "http://10.0.0.1:2379", false),
            ("http://etcd/", "http://etcd:2379", false),
            ("https://[::1]:4001", "https://[::1]:4001", true),
            ("https://etcd.example:1", "https://etcd.example:1", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.to_string().as_str(), endpoint.is_secure()),
                (shown, secure)
            );
        }
        for text in [
            "",
            "etcd:2379",
            "10.0.0.1",
            "ftp://a:1",
            "http://",
            "http://a/v3",
            "http://a?x",
            "http://me:pw@a",
            "http://a:x",
            "http://a:",
            "http://a:70000",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(Tls::new(b"", None).is_err());
        let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(Tls::new(nonsense, None).is_err());
    }
}
