//! SendTargets in a discovery session (RFC 7143 appendix C).

use iscsi_proto::discovery::TargetRecord;

use crate::{Error, Options};

/// Asks the target at `address` (`host`, `host:port`, `[v6]:port`) what targets there are.
pub async fn discover(_address: &str, _options: &Options) -> Result<Vec<TargetRecord>, Error> {
    Err(Error::Unreachable)
}
