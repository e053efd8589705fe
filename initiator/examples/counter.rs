//! Counts in the first block of a unit, together with everybody else who does: `counter URL`. COMPARE AND WRITE lets one
//! of them win each turn; the others look again. Use a unit whose first block nobody needs.

use std::error::Error;

use iscsi_initiator::{Comparison, IscsiUrl, Lun, Options, Remote, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: counter URL")?
        .parse()?;
    println!("{}", run(&url).await?);
    Ok(())
}

/// Adds one, and returns the sum.
pub(crate) async fn run(url: &IscsiUrl) -> Result<u64, Box<dyn Error>> {
    let options = Options::new("iqn.2025-01.io.vmthunder:example".parse()?);
    let session = Session::connect(url, options).await?;
    let unit = Remote::attach(session.clone(), Lun::from_number(url.lun().unwrap_or(0))).await?;
    let count = loop {
        let found = unit.read_at(0, unit.block_bytes().into()).await?;
        let count = found
            .first_chunk()
            .map_or(0, |count| u64::from_le_bytes(*count));
        let mut next = vec![0; found.len()];
        next[..8].copy_from_slice(&(count + 1).to_le_bytes());
        // After `Error::Interrupted` nobody knows whether this turn was taken. A block that names its writer, too, could be
        // read to find out; this one cannot, so it gives up.
        match unit.compare_and_write(0, &found, &next).await? {
            Comparison::Written => break count + 1,
            Comparison::Differs { .. } => {}
        }
    };
    session.close().await;
    Ok(count)
}
