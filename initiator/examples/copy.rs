//! Reads a unit to standard output: `copy iscsi://127.0.0.1:3260/iqn.2025-01.org.example:disk/0 > disk.raw`.
//! Several reads are under way at once, and what the unit does not store is not read.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;

use iscsi_initiator::{Allocation, Bytes, IscsiUrl, Lun, Options, Remote, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: copy URL")?.parse()?;
    run(&url, &mut std::io::stdout().lock()).await
}

/// Writes every byte of a unit.
pub(crate) async fn run(url: &IscsiUrl, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let options = Options::new("iqn.2025-01.io.vmthunder:example".parse()?);
    let session = Session::connect(url, options).await?;
    let unit = Remote::attach(session.clone(), Lun::from_number(url.lun().unwrap_or(0))).await?;
    let end = unit.size_in_bytes();
    let mut at = 0;
    let mut flying = VecDeque::new();
    while at < end || !flying.is_empty() {
        while at < end && flying.len() < IN_FLIGHT {
            let length = PIECE_BYTES.min(end - at);
            // A task of its own: it makes way while an earlier piece is written.
            flying.push_back(tokio::spawn(read(unit.clone(), at, length)));
            at += length;
        }
        if let Some(piece) = flying.pop_front() {
            out.write_all(&piece.await??)?;
        }
    }
    session.close().await;
    Ok(())
}

async fn read(unit: Remote, at: u64, length: u64) -> Result<Bytes, iscsi_initiator::Error> {
    if unit.allocation_at(at, length).await? == (Allocation::Hole, length) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        return Ok(vec![0; length].into());
    }
    unit.read_at(at, length).await
}

const IN_FLIGHT: usize = 8;
const PIECE_BYTES: u64 = 1024 * 1024;
