//! Reads a unit to standard output, or says what targets an address has: a smallest user of the crate.
//!
//! `copy iscsi://127.0.0.1:3260/iqn.2025-01.org.example:disk/0 > disk.raw`, `copy 127.0.0.1:3260`

use std::error::Error;
use std::io::Write;

use iscsi_initiator::{Options, Remote, Session, discover};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::{Class, Span, Volume};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: copy URL | ADDRESS")?;
    let options = Options::new("iqn.2025-01.io.vmthunder:example".parse()?);
    match place.parse::<IscsiUrl>() {
        Ok(url) if url.target().is_some() => copy(&url, options).await,
        _ => list(&place, &options).await,
    }
}

async fn list(address: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    for record in discover(address, options).await? {
        println!("{} {:?}", record.name, record.addresses);
    }
    Ok(())
}

async fn copy(url: &IscsiUrl, options: Options) -> Result<(), Box<dyn Error>> {
    let session = Session::connect(url, options).await?;
    let remote = Remote::attach(session.clone(), Lun::from_number(url.lun().unwrap_or(0))).await?;
    let whole = remote.geometry().whole();
    let mut at = 0;
    while at < whole.end() {
        let span = Span::new(at, PIECE_BYTES.min(whole.end() - at));
        std::io::stdout().write_all(&remote.read(span, Class::Demand).await?)?;
        at = span.end();
    }
    session.close().await;
    Ok(())
}

const PIECE_BYTES: u64 = 8 * 1024 * 1024;
