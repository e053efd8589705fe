//! etcd's API over HTTP/1.1 and JSON: a call and its answer, or an answer that goes on.
//!
//! An answer is trusted in nothing: it ends in time, is no longer than [`MOST_ANSWER`], and a line of one that goes on is
//! no longer than that either.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::membership::etcd::calls::{Answer, Token};
use crate::membership::etcd::endpoint::{Endpoint, Tls};
use crate::membership::etcd::error::EtcdError;

/// How long a call may take, and the making of a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// The longest answer, and the longest line of one that goes on.
const MOST_ANSWER: usize = 8 * 1024 * 1024;

/// What is repeated of an answer that refuses.
const MOST_MESSAGE: usize = 200;

/// After how long a silent connection is tried, how often, and how many times in vain until it is given up.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;

/// Who asks.
#[derive(Clone)]
pub struct Login {
    /// A user of etcd.
    pub user: String,
    /// The password of that user.
    pub password: zeroize::Zeroizing<String>,
}

/// A connection to a member of an etcd cluster; one call at a time.
pub(super) struct Gateway {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    token: Option<HeaderValue>,
}

/// An answer that goes on, line by line.
pub(super) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer in which there is no end of a line.
    searched: usize,
}

impl Gateway {
    /// Connects, and logs in if somebody is given.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        tls: Option<&Tls>,
        login: Option<&Login>,
    ) -> Result<Self, EtcdError> {
        let connecting = Self::open(endpoint, tls);
        let mut gateway = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| EtcdError::TimedOut)??;
        if let Some(login) = login {
            let said = serde_json::json!({"name": login.user, "password": login.password.as_str()});
            let Token { token } = gateway.call("auth/authenticate", &said).await?;
            let mut token = HeaderValue::from_str(&token).map_err(hyper::http::Error::from)?;
            token.set_sensitive(true);
            gateway.token = Some(token);
        }
        Ok(gateway)
    }

    /// Calls and waits for the whole answer.
    pub(super) async fn call<A: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<A, EtcdError> {
        let call = async {
            let answer = self.ask(path, question).await?;
            let body = whole(answer.into_body()).await?;
            Ok(serde_json::from_slice(&body)?)
        };
        timeout(PATIENCE, call)
            .await
            .map_err(|_| EtcdError::TimedOut)?
    }

    /// Calls and gives the answer as it comes; the connection is used up.
    pub(super) async fn follow(
        mut self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<Lines, EtcdError> {
        let answer = timeout(PATIENCE, self.ask(path, question))
            .await
            .map_err(|_| EtcdError::TimedOut)??;
        Ok(Lines {
            body: answer.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
        })
    }

    async fn open(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Self, EtcdError> {
        let place = (endpoint.host.as_str(), endpoint.port);
        let stream = TcpStream::connect(place).await;
        let stream = stream.map_err(EtcdError::Connect)?;
        tune(&stream).map_err(EtcdError::Connect)?;
        let authority = endpoint.authority();
        let Some(name) = &endpoint.proves else {
            return Self::speak(stream, authority).await;
        };
        let Some(Tls(config)) = tls else {
            let error = io::Error::other("no authorities are configured that https could rest on");
            return Err(EtcdError::Connect(error));
        };
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(name.clone(), stream).await;
        Self::speak(stream.map_err(EtcdError::Connect)?, authority).await
    }

    async fn speak(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        authority: String,
    ) -> Result<Self, EtcdError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when nobody holds the sender, nor an answer that goes on.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to etcd ended");
            }
        });
        Ok(Self {
            sender,
            authority,
            token: None,
        })
    }

    async fn ask(
        &mut self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<Response<Incoming>, EtcdError> {
        let mut request = Request::post(format!("/v3/{path}"))
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::from(serde_json::to_vec(question)?))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = whole(answer.into_body()).await?;
        let said: String = match serde_json::from_slice(&body) {
            Ok(Answer { error }) => error,
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let shown = said.chars().filter(|c| !c.is_control());
        Err(EtcdError::Refused {
            status: status.as_u16(),
            message: shown.take(MOST_MESSAGE).collect(),
        })
    }
}

impl Lines {
    /// The next line. Nothing is lost if the wait is given up.
    pub(super) async fn next(&mut self) -> Result<Bytes, EtcdError> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched.saturating_add(end));
                // The end of the line itself.
                let _ = self.buffer.split_to(1);
                self.searched = 0;
                return Ok(line.freeze());
            }
            self.searched = self.buffer.len();
            let frame = self.body.frame().await.ok_or(EtcdError::Ended)??;
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            if self.buffer.len().saturating_add(bytes.len()) > MOST_ANSWER {
                return Err(EtcdError::TooLong);
            }
            self.buffer.extend_from_slice(&bytes);
        }
    }
}

async fn whole(body: Incoming) -> Result<Bytes, EtcdError> {
    let whole = Limited::new(body, MOST_ANSWER).collect().await;
    let whole = whole.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(broken) => EtcdError::Http(*broken),
        Err(other) if other.is::<LengthLimitError>() => EtcdError::TooLong,
        Err(_) => EtcdError::Ended,
    })?;
    Ok(whole.to_bytes())
}

/// A watch can be silent for hours: that the other end is still there is asked by TCP.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login of {}", self.user)
    }
}
