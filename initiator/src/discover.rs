//! SendTargets in a discovery session (RFC 7143 appendix C).

use std::time::Duration;

use iscsi_proto::discovery::TargetRecord;
use iscsi_proto::session::{InitiatorEvent, SessionEnd};

use crate::connection::{Connection, now};
use crate::dial::Dialer;
use crate::{Error, Options};

/// Asks the target at `address` (`host`, `host:port`, `[v6]:port`) what targets there are (SendTargets, RFC 7143 appendix
/// C), in a session of its own that is gone when this returns, or is dropped. Errors are those of a login, and
/// [`Error::Discover`] for an answer that makes no sense.
pub async fn discover(address: &str, options: &Options) -> Result<Vec<TargetRecord>, Error> {
    let mut connection = Dialer::new(&[address], None, options)?.dial().await?;
    connection
        .session
        .discover(now())
        .map_err(|_| Error::Ended(SessionEnd::Disconnected))?;
    loop {
        match connection.event().await {
            InitiatorEvent::Discovered { records, .. } => {
                say_goodbye(&mut connection).await;
                return Ok(records?);
            }
            InitiatorEvent::Ended(end) => return Err(Error::Ended(end)),
            _ => {}
        }
    }
}

/// Logs out. The answer is there already, so a target that does not answer this does no harm.
pub(crate) async fn say_goodbye(connection: &mut Connection) {
    connection.session.logout(now());
    let ended = async { while !matches!(connection.event().await, InitiatorEvent::Ended(_)) {} };
    // Either way the connection is dropped next.
    let _ = tokio::time::timeout(LOGOUT_TIME, ended).await;
    connection.farewell();
}

/// How long a logout may take that nobody needs.
const LOGOUT_TIME: Duration = Duration::from_secs(1);
