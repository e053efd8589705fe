//! How much a command may bring: its ALLOCATION LENGTH (SPC-3 §4.3.4.6), and what the initiator expects (RFC 7143
//! §11.4.5.2).

use crate::check::{Verdict, ensure};
use crate::session::{Flow, Reply, Session, Task};
use crate::words;

/// Sends a command whose ALLOCATION LENGTH is `bytes`: it has to bring so many of its whole data, unchanged. The
/// initiator expects more, so that the transport does not cut what the command should have cut.
pub(super) async fn is_cut(
    session: &mut Session,
    what: &str,
    task: Task,
    bytes: usize,
    whole: &[u8],
) -> Verdict {
    let roomy = Task {
        flow: Flow::In(EXPECTED),
        ..task
    };
    let reply = session.run(&roomy).await?;
    let what = format!("{what} with ALLOCATION LENGTH {bytes}");
    let cut = reply.good(&what)?.data;
    ensure!(
        cut.len() == bytes.min(whole.len()),
        "{what} brings {} bytes, of {} whole ones",
        cut.len(),
        whole.len()
    );
    ensure!(
        whole.starts_with(&cut),
        "{what} brings {} instead of {}",
        words::hex(&cut),
        words::hex(whole.get(..cut.len()).unwrap_or(whole))
    );
    Ok(())
}

/// What the initiator expected and did not get has to be told.
pub(super) fn underflow(reply: &Reply, expected: usize) -> Verdict {
    let missing = expected.saturating_sub(reply.data.len());
    ensure!(
        reply.flags & 0x06 == 0x02 && usize::try_from(reply.residual) == Ok(missing),
        "{} of {expected} bytes come; the flags are {:#04x} and the Residual Count {} instead of an underflow of {missing}",
        reply.data.len(),
        reply.flags,
        reply.residual
    );
    Ok(())
}

/// More than what is cut in any of these checks.
const EXPECTED: u32 = 8192;
