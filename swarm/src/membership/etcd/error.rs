//! What goes wrong with etcd.

use std::io;

/// Why something was not had from etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Nobody answers there.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// It takes too long.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke, or what arrived is no HTTP.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// A request cannot be made of what is configured.
    #[error("no request can be made of what is configured: {0}")]
    Request(#[from] hyper::http::Error),
    /// It refuses.
    #[error("etcd refuses with status {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of what it says.
        message: String,
    },
    /// An answer has another form.
    #[error("an answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An answer is longer than anything that is asked for.
    #[error("an answer is too long")]
    TooLong,
    /// There are more keys than there can be members.
    #[error("there are more keys below `members/` than there can be members")]
    TooMany,
    /// It ended what it should go on telling.
    #[error("etcd ended the watch")]
    Ended,
    /// What changed meanwhile is forgotten.
    #[error("what changed before revision {0} is forgotten")]
    Compacted(i64),
    /// The lease is over.
    #[error("the lease is over")]
    LeaseOver,
    /// Somebody else wrote under our name all the time.
    #[error("the record of this node is changed by others all the time")]
    Contended,
    /// A living record under our name was not made with the swarm's key.
    #[error(
        "`{key}` holds what no node of this swarm wrote: give each swarm an `etcd-prefix` of its own, and the same key to \
        all of its nodes; or remove it by `etcdctl del {key}`"
    )]
    Foreign {
        /// The key in etcd.
        key: String,
    },
}

/// Why a text is no place of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL of that kind.
    #[error("it is not http://HOST:PORT or https://HOST:PORT")]
    Form,
}

/// Why certificates are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds none.
    #[error("the {0} cannot be read as PEM: {1}")]
    Pem(
        &'static str,
        #[source] tokio_rustls::rustls::pki_types::pem::Error,
    ),
    /// There is none.
    #[error("there is no certificate in the {0}")]
    Empty(&'static str),
    /// They do not belong together, or are not understood.
    #[error("the certificates are of no use: {0}")]
    Rustls(#[from] tokio_rustls::rustls::Error),
}
