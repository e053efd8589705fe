//! How much memory sessions take in which nothing happens, and connections that never log in.
//!
//! `idle [SESSIONS] [HALF_OPEN]` opens so many sessions with a target in the same process, lets each read something and
//! rest, then opens so many connections that send nothing, and prints what the process has grown by each time.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use iscsi_target::{Export, Target, TargetLimits, TargetOptions, Unit, UnitIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Geometry};

const NAME: &str = "iqn.2013-07.org.vmthunder:example";

/// Longer than a session keeps its buffers.
const REST: Duration = Duration::from_secs(7);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u16>());
    let sessions = numbers.next().transpose()?.unwrap_or(1000);
    let half_open = numbers.next().transpose()?.unwrap_or(1000);
    let target = Target::new(TargetOptions {
        limits: TargetLimits {
            sessions: sessions.into(),
            sessions_per_initiator: sessions.into(),
            ..TargetLimits::default()
        },
        ..TargetOptions::default()
    });
    let volume = MemVolume::zeroed(Geometry::new(BlockSize::B512, 2048));
    let unit = Unit::new(0, volume, UnitIdentity::locally_assigned(1, "example"));
    target.export(Export::new(NAME.parse()?, vec![unit]))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Arc::clone(&target).serve(listener, stop.clone()));

    let mut open = Vec::new();
    // The first session brings in what all of them share.
    open.push(session(address, 0).await?);
    let before = resident()?;
    for isid in 1..sessions {
        open.push(session(address, isid).await?);
    }
    let busy = resident()?;
    tokio::time::sleep(REST).await;
    let idle = resident()?;
    let each = |grown: usize, count: u16| grown.saturating_sub(before) / usize::from(count.max(1));
    println!(
        "{} sessions: {} bytes each after a read, {} bytes each at rest",
        target.stats().sessions,
        each(busy, sessions),
        each(idle, sessions)
    );
    for _ in 0..half_open {
        open.push(TcpStream::connect(address).await?);
    }
    // Whoever logs in now is let in, so the connections before it have been taken in.
    drop(open.pop());
    let late = TcpStream::connect(address).await?;
    drop(late);
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!(
        "{half_open} connections without login: {} KiB, {} of them driven out",
        resident()?.saturating_sub(idle) / 1024,
        target.stats().connections_refused
    );
    drop(open);
    stop.cancel();
    serving.await?;
    Ok(())
}

/// A session that has read 64 KiB.
async fn session(address: std::net::SocketAddr, isid: u16) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let keys = format!("InitiatorName=iqn.2013-07.org.vmthunder:idle\0TargetName={NAME}\0");
    let mut login = [0; 48];
    login[..2].copy_from_slice(&[0x43, 0x87]);
    login[7] = u8::try_from(keys.len())?;
    login[11..13].copy_from_slice(&isid.to_be_bytes());
    login[27] = 1;
    let padded = keys.len().next_multiple_of(4);
    let mut bytes = login.to_vec();
    bytes.extend(keys.as_bytes());
    bytes.resize(48 + padded, 0);
    stream.write_all(&bytes).await?;
    receive(&mut stream).await?;
    // The first is told of the unit attention condition.
    for (number, blocks) in [(1u8, 0u8), (2, 128)] {
        let mut command = [0; 48];
        command[..2].copy_from_slice(&[0x01, 0xc1]);
        command[19] = number;
        command[20..24].copy_from_slice(&(u32::from(blocks) * 512).to_be_bytes());
        command[27] = number;
        command[32..42].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0]);
        stream.write_all(&command).await?;
        while receive(&mut stream).await?[1] & 0x01 == 0 && blocks != 0 {}
    }
    Ok(stream)
}

async fn receive(stream: &mut TcpStream) -> Result<[u8; 48], Box<dyn Error>> {
    let mut header = [0; 48];
    stream.read_exact(&mut header).await?;
    let length = u32::from_be_bytes([0, header[5], header[6], header[7]]);
    let mut data = vec![0; usize::try_from(length)?.next_multiple_of(4)];
    stream.read_exact(&mut data).await?;
    Ok(header)
}

/// Bytes of memory that the process holds.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
