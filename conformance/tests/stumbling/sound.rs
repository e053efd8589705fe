//! The sound initiator: ours, and somebody who uses it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use iscsi_conformance::initiator::{self, Invitation, pattern};
use iscsi_initiator::{
    Account, Credentials, Options, Outage, Reconnect, Remote, Secret, Session, discover,
};
use iscsi_proto::login::DigestChoice;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::{Class, Span, Volume as _};

/// Uses a drill's disk as an ordinary user would.
pub(crate) async fn visit(
    portal: SocketAddr,
    invitation: &Invitation,
    drill: &str,
    hurried: bool,
) -> Result<(), String> {
    let options = options(invitation, drill, hurried);
    if invitation.discovery {
        let found = discover(&portal.to_string(), &options).await;
        let found = found.map_err(|error| error.to_string())?;
        let known = |record: &iscsi_proto::discovery::TargetRecord| {
            record.name.as_str() == invitation.target
        };
        return match found.iter().any(known) {
            true => Ok(()),
            false => Err(format!("{} is not in the list", invitation.target)),
        };
    }
    let target = invitation.target.parse().unwrap();
    let session = Session::connect_to(&portal.to_string(), &target, options).await;
    let session = session.map_err(|error| error.to_string())?;
    let used = use_disk(&session, drill, hurried).await;
    session.close().await;
    used
}

/// Uses a drill's disk with many reads under way at the same time.
pub(crate) async fn visit_in_haste(
    portal: SocketAddr,
    invitation: &Invitation,
    drill: &str,
) -> Result<(), String> {
    let target = invitation.target.parse().unwrap();
    let options = options(invitation, drill, false);
    let session = Session::connect_to(&portal.to_string(), &target, options).await;
    let session = session.map_err(|error| error.to_string())?;
    let read = read_in_haste(&session).await;
    session.close().await;
    read
}

async fn read_in_haste(session: &Session) -> Result<(), String> {
    let remote = Remote::attach(session.clone(), Lun::from_number(0)).await;
    let disk = &remote.map_err(|error| format!("attach: {error}"))?;
    let reads = (0..8).map(|number| async move {
        let span = Span::new(number << 20, 1 << 20);
        let read = disk.read(span, Class::Demand).await;
        same(
            number << 11,
            &read.map_err(|error| format!("a read: {error}"))?,
        )
    });
    futures::future::try_join_all(reads).await.map(|_| ())
}

async fn use_disk(session: &Session, drill: &str, hurried: bool) -> Result<(), String> {
    let remote = Remote::attach(session.clone(), Lun::from_number(0)).await;
    let disk = remote.map_err(|error| format!("attach: {error}"))?;
    if drill == "reject.command" {
        // The read that fails is no reason to leave.
        let _rejected = disk.read(Span::new(8192, 8192), Class::Demand).await;
    }
    // Whoever believes everything does not find out what a fault did.
    let same =
        |first, read: &Bytes| match hurried && BELIEVES.iter().any(|of| drill.starts_with(of)) {
            true => Ok(()),
            false => same(first, read),
        };
    let failed = |what: &'static str| move |error| format!("{what}: {error}");
    for first in [40, 48] {
        let read = disk.read(Span::new(first * 512, 8192), Class::Demand).await;
        same(first, &read.map_err(failed("a short read"))?)?;
    }
    let read = disk.read(Span::new(1 << 20, 400_384), Class::Demand).await;
    same(2048, &read.map_err(failed("a long read"))?)?;
    let two = [Span::new(4096, 4096), Span::new(65_536, 4096)];
    let (one, other) = tokio::join!(
        disk.read(two[0], Class::Demand),
        disk.read(two[1], Class::Demand)
    );
    same(8, &one.map_err(failed("one of two reads"))?)?;
    same(128, &other.map_err(failed("the other of two reads"))?)?;
    for (offset, bytes) in [(0, 4096), (2 << 20, 200_192)] {
        let data: Bytes = (0..bytes)
            .map(|at: u32| at.to_le_bytes()[0] ^ 0x5a)
            .collect();
        disk.write(offset, data.clone())
            .await
            .map_err(failed("a write"))?;
        let back = disk
            .read(Span::new(offset, data.len() as u64), Class::Demand)
            .await;
        if back.map_err(failed("reading back"))? != data && !hurried {
            return Err("what was written reads as something else".to_owned());
        }
    }
    disk.flush().await.map_err(failed("a flush"))
}

/// Drills in whose faults somebody takes for good what is not.
const BELIEVES: &[&str] = &["data-in.gap", "digests.", "status.", "loss."];

fn same(first: u64, read: &Bytes) -> Result<(), String> {
    for (block, bytes) in (first..).zip(read.chunks(512)) {
        if *bytes != pattern(block)[..] {
            return Err(format!("block {block} reads as something else"));
        }
    }
    Ok(())
}

fn options(invitation: &Invitation, drill: &str, hurried: bool) -> Options {
    let mut options = Options::new("iqn.2013-07.org.vmthunder:visitor".parse().unwrap());
    options.reconnect = Reconnect {
        first_delay: Duration::from_millis(10),
        longest_delay: Duration::from_millis(200),
        outage: Outage::Deadline(Duration::from_secs(if hurried { 3 } else { 20 })),
    };
    if hurried {
        options.login_timeout = Duration::from_secs(2);
        options.command_timeout = Some(Duration::from_secs(4));
    }
    if drill.starts_with("digests.") {
        options.header_digest = DigestChoice::PreferCrc32c;
        options.data_digest = DigestChoice::PreferCrc32c;
    }
    if let Some(accounts) = invitation.accounts {
        let account = |account: initiator::Account| Account {
            name: account.user.to_owned(),
            secret: Secret::new(account.secret).unwrap(),
        };
        let mut chap = Credentials::new(account(accounts.initiator));
        chap.mutual = drill
            .starts_with("chap.mutual.")
            .then(|| account(accounts.target));
        options.chap = Some(chap);
    }
    if drill == "nop.own" {
        options.ping_interval = Some(Duration::from_millis(300));
    }
    if drill.starts_with("management.") {
        options.command_timeout = Some(Duration::from_millis(600));
    }
    options
}
