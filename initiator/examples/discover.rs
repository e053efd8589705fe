//! Says what targets an address has, with their units: `discover 127.0.0.1:3260`.

use std::error::Error;
use std::io::Write;

use iscsi_initiator::{Options, Session, discover};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: discover ADDRESS")?;
    run(&address, &mut std::io::stdout()).await
}

/// Writes a line for each target, and one for each of its units.
pub(crate) async fn run(address: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let options = Options::new("iqn.2025-01.io.vmthunder:example".parse()?);
    for target in discover(address, &options).await? {
        writeln!(out, "{} {:?}", target.name, target.addresses)?;
        let session = Session::connect_to(address, &target.name, options.clone()).await?;
        for lun in session.report_luns().await? {
            let capacity = session.read_capacity(lun).await?;
            let (blocks, size) = (capacity.blocks, capacity.block_bytes);
            writeln!(out, "  LUN {lun}: {blocks} blocks of {size} bytes")?;
        }
        session.close().await;
    }
    Ok(())
}
