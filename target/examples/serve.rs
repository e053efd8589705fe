//! Serves one volume over iSCSI on the loopback until it is ended, and prints its URL.
//!
//! `serve FILE [PORT]` serves a raw file, `serve --memory BYTES [PORT]` a volume in memory; `--read-only` in front of
//! either refuses writes.

use std::error::Error;
use std::path::Path;

use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{Access, BlockSize, Geometry, RawFile, Volume};

const NAME: &str = "iqn.2013-07.org.vmthunder:example";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let read_only = arguments
        .first()
        .is_some_and(|first| first == "--read-only");
    if read_only {
        arguments.remove(0);
    }
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--memory", bytes, ref rest @ ..] => {
            let geometry = Geometry::of_bytes(BlockSize::B512, bytes.parse()?);
            serve(
                MemVolume::zeroed(geometry),
                read_only,
                rest.first().copied(),
            )
            .await
        }
        [file, ref rest @ ..] => {
            let access = if read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            };
            let volume = RawFile::open(Path::new(file), access, BlockSize::B512)?;
            serve(volume, read_only, rest.first().copied()).await
        }
        [] => Err("usage: serve [--read-only] FILE|--memory BYTES [PORT]".into()),
    }
}

async fn serve<V: Volume>(
    volume: V,
    read_only: bool,
    port: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let identity = UnitIdentity::locally_assigned(0x0123_4567_89ab_cdef, "example");
    let unit = Unit {
        read_only,
        ..Unit::new(0, volume, identity)
    };
    let target = Target::new(TargetOptions::default());
    target.export(Export::new(NAME.parse()?, vec![unit]))?;
    let listener = TcpListener::bind(format!("127.0.0.1:{}", port.unwrap_or("0"))).await?;
    println!("iscsi://{}/{NAME}/0", listener.local_addr()?);
    target.serve(listener, CancellationToken::new()).await;
    Ok(())
}
