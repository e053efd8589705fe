//! What is durable when, and what others see meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use iscsi_proto::scsi::persistent::ReservationType;
use iscsi_proto::scsi::{Command, ReserveIn};
use tempfile::TempDir;
use tokio::time::timeout;

use super::order::{Notice, Order};
use super::testing::{
    nexus, nexuses, preempt_and_abort, register, register_and_ignore, register_for_good, reserve,
};
use super::{Fenced, MAX_LIST_BYTES, Reservations, StateFile};
use crate::failure::Failure;
use crate::sessions::ItNexus;

fn command(bytes: &[u8]) -> Command {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    Command::parse(&cdb).unwrap()
}

/// REGISTER AND IGNORE EXISTING KEY, which nobody is refused for being a stranger.
fn out() -> Command {
    command(&[0x5f, 0x06, 0, 0, 0, 0, 0, 0, 24])
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reservations");
    (folder, path)
}

fn open(path: &Path) -> Reservations {
    Reservations::open(Some(path)).unwrap()
}

async fn tell(
    reservations: &Reservations,
    number: u8,
    order: Order,
) -> Result<Option<BTreeSet<ItNexus>>, Failure> {
    let (who, command) = (nexus(number), out());
    let carried_out = reservations.carry_out(
        &who,
        &order,
        &command,
        |_: &[Notice], _: Option<&Fenced>| (),
    );
    let done = timeout(Duration::from_secs(10), carried_out)
        .await
        .unwrap()?;
    Ok(done.map(|fenced| fenced.nexuses))
}

fn keys(reservations: &Reservations) -> Vec<u64> {
    reservations.read().persistent.keys().keys
}

fn capabilities(reservations: &Reservations) -> [u8; 2] {
    let report = reservations.report(ReserveIn::ReportCapabilities);
    [report[2], report[3]]
}

/// SPC-4 §5.13.5: keys, the reservation and its holder are there after a restart; PRGENERATION begins again.
#[tokio::test]
async fn registrations_survive() {
    let (_folder, path) = folder();
    let reservations = open(&path);
    assert_eq!(capabilities(&reservations), [0x1d, 0xb0]);
    tell(&reservations, 1, register_for_good(0x11))
        .await
        .unwrap();
    tell(&reservations, 2, register_for_good(0x22))
        .await
        .unwrap();
    let kind = ReservationType::WriteExclusive;
    tell(&reservations, 2, reserve(0x22, kind)).await.unwrap();
    let full = reservations.report(ReserveIn::ReadFullStatus);
    drop(reservations);

    let reservations = open(&path);
    assert_eq!(capabilities(&reservations), [0x1d, 0xb1]);
    let report = reservations.report(ReserveIn::ReadFullStatus);
    assert_eq!((&full[..4], &report[..4]), (&[0, 0, 0, 2][..], &[0; 4][..]));
    assert_eq!(full[4..], report[4..]);
    let write = command(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(reservations.check(&nexus(2), &write), Ok(()));
    assert_eq!(
        reservations.check(&nexus(1), &write),
        Err(Failure::Conflict)
    );
}

/// SPC-4 §6.16.3: the last APTPL decides, and then nothing outlives a restart.
#[tokio::test]
async fn registrations_are_forgotten_on_request() {
    let (_folder, path) = folder();
    let reservations = open(&path);
    tell(&reservations, 1, register_for_good(0x11))
        .await
        .unwrap();
    assert!(path.exists());
    tell(&reservations, 1, register_and_ignore(0x12))
        .await
        .unwrap();
    assert!(!path.exists());
    assert_eq!(keys(&reservations), [0x12]);
    assert_eq!(keys(&open(&path)), []);
}

#[tokio::test]
async fn without_a_file_nothing_is_promised() {
    let reservations = Reservations::open(None).unwrap();
    assert_eq!(capabilities(&reservations), [0x1c, 0xb0]);
    let refused = tell(&reservations, 1, register_for_good(1)).await;
    assert!(matches!(refused, Err(Failure::Check(_))));
    tell(&reservations, 1, register(0, 1)).await.unwrap();
    assert_eq!(keys(&reservations), [1]);
}

#[tokio::test]
async fn a_damaged_file_is_an_error() {
    let (_folder, path) = folder();
    tell(&open(&path), 1, register_for_good(1)).await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Reservations::open(Some(&path)).unwrap_err();
    assert_eq!(error.to_string(), "it is damaged: the checksum is wrong");
}

/// What could not be kept did not happen, and nobody hears of it.
#[tokio::test]
async fn a_failing_disk_changes_nothing() {
    let (folder, path) = folder();
    let reservations = open(&path);
    tell(&reservations, 1, register_for_good(1)).await.unwrap();
    tell(&reservations, 2, register_for_good(2)).await.unwrap();
    drop(folder);
    let order = preempt_and_abort(1, 2, ReservationType::WriteExclusive);
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let count = move |_: &[Notice], _: Option<&Fenced>| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let failed = reservations
        .carry_out(&nexus(1), &order, &out(), count)
        .await;
    let Err(Failure::Check(sense)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(
        sense.to_fixed_bytes()[2..14],
        [4, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44, 0]
    );
    assert_eq!(keys(&reservations), [1, 2]);
    assert_eq!(told.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn others_are_told_and_named() {
    let reservations = Reservations::open(None).unwrap();
    tell(&reservations, 1, register(0, 1)).await.unwrap();
    tell(&reservations, 2, register(0, 2)).await.unwrap();
    let order = preempt_and_abort(1, 2, ReservationType::WriteExclusive);
    let told = Arc::new(Mutex::new(Vec::new()));
    let told_to = Arc::clone(&told);
    let note = move |notices: &[Notice], _: Option<&Fenced>| {
        told_to.lock().unwrap().extend_from_slice(notices);
    };
    let aborted = reservations
        .carry_out(&nexus(1), &order, &out(), note)
        .await;
    assert_eq!(aborted.unwrap().unwrap().nexuses, nexuses(&[2]));
    let told = told.lock().unwrap();
    let codes = (told[0].0.key, told[0].0.asc, told[0].0.ascq);
    assert_eq!((codes, &told[0].1), ((6, 0x2a, 0x05), &nexuses(&[2])));
}

/// SPC-4 §5.13.11.5: what was let in before PREEMPT AND ABORT has ended when that is over; what comes after is refused.
#[tokio::test]
async fn a_write_is_fenced_or_waited_for() {
    let reservations = Reservations::open(None).unwrap();
    let write = command(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    let read = command(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    tell(&reservations, 1, register(0, 1)).await.unwrap();
    tell(&reservations, 2, register(0, 2)).await.unwrap();
    assert!(reservations.enter(&nexus(2), &read).unwrap().is_none());
    let early = reservations.enter(&nexus(2), &write).unwrap();
    let (who, out) = (nexus(1), out());
    let kind = ReservationType::WriteExclusive;
    tell(&reservations, 2, reserve(2, kind)).await.unwrap();
    let order = preempt_and_abort(1, 2, kind);
    let fenced = reservations
        .carry_out(&who, &order, &out, |_: &[Notice], _: Option<&Fenced>| ())
        .await;
    let fenced = fenced.unwrap().unwrap();
    assert_eq!(
        reservations.enter(&nexus(2), &write).unwrap_err(),
        Failure::Conflict
    );
    // The holder's own later writes are not waited for.
    let late = reservations.enter(&nexus(1), &write).unwrap();
    let mut waited = pin!(fenced.writing.wait());
    let mut context = Context::from_waker(Waker::noop());
    assert!(waited.as_mut().poll(&mut context).is_pending());
    drop(early);
    assert!(waited.as_mut().poll(&mut context).is_ready());
    drop(late);
}

/// However far an order has come when nobody waits for it any more: memory and disk say the same afterwards.
#[tokio::test]
async fn an_order_that_is_dropped_is_whole_or_not_at_all() {
    for polls in 0..4 {
        let (_folder, path) = folder();
        let reservations = open(&path);
        tell(&reservations, 1, register_for_good(1)).await.unwrap();
        let (who, order, command) = (nexus(2), register_for_good(2), out());
        {
            let mut carried_out = pin!(reservations.carry_out(
                &who,
                &order,
                &command,
                |_: &[Notice], _: Option<&Fenced>| ()
            ));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if let Poll::Ready(done) = carried_out.as_mut().poll(&mut context) {
                    done.unwrap();
                    break;
                }
            }
        }
        // Whoever holds the turn is done when it is given on.
        let turn = timeout(Duration::from_secs(10), reservations.turn.lock());
        drop(turn.await.unwrap());
        let kept = StateFile::new(&path).load().unwrap().unwrap();
        let kept: Vec<u64> = kept.registrations.into_values().collect();
        assert_eq!(kept, keys(&reservations), "after {polls} polls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_at_once_come_one_after_the_other() {
    let (_folder, path) = folder();
    let reservations = Arc::new(open(&path));
    let orders = (0..32u8).map(|number| {
        let reservations = Arc::clone(&reservations);
        tokio::spawn(
            async move { tell(&reservations, number, register_for_good(number.into())).await },
        )
    });
    let orders: Vec<_> = orders.collect();
    for order in orders {
        order.await.unwrap().unwrap();
    }
    assert_eq!(
        keys(&reservations).len(),
        31,
        "a key of zero registers nobody"
    );
    assert_eq!(reservations.read().persistent.generation, 31);
    assert_eq!(keys(&open(&path)), keys(&reservations));
}

/// RESERVE ends with the nexus, with a reset, and with RELEASE; registrations end with none of them
/// (RFC 7143 §4.4.3.2 and §E.2).
#[tokio::test]
async fn what_ends_with_a_nexus() {
    let reservations = Reservations::open(None).unwrap();
    let (take, give, ready) = (command(&[0x16]), command(&[0x17]), command(&[0x00]));
    let reserved = || {
        assert_eq!(reservations.check(&nexus(1), &ready), Ok(()));
        reservations.check(&nexus(2), &ready).is_err()
    };
    for how in 0..4 {
        reservations.execute_legacy(&take, &nexus(1)).await.unwrap();
        assert!(reserved());
        match how {
            0 => assert!(reservations.execute_legacy(&give, &nexus(1)).await.is_ok()),
            1 => reservations.nexus_lost(&nexus(1)),
            2 => reservations.reset(),
            _ => {
                reservations.execute_legacy(&give, &nexus(2)).await.unwrap();
                reservations.nexus_lost(&nexus(2));
            }
        }
        assert_eq!(reserved(), how == 3);
    }
    reservations.reset();
    tell(&reservations, 1, register(0, 1)).await.unwrap();
    let kind = ReservationType::ExclusiveAccess;
    tell(&reservations, 1, reserve(1, kind)).await.unwrap();
    reservations.nexus_lost(&nexus(1));
    reservations.reset();
    assert!(reservations.read().persistent.is_holder(&nexus(1)));
}

/// SPC-4 §6.16.2: the length of the list.
#[test]
fn lists_have_a_least_and_a_greatest_length() {
    let reservations = Reservations::default();
    let bytes = |length: u32| {
        let [a, b, c, d] = length.to_be_bytes();
        reservations.data_out_bytes(&command(&[0x5f, 0, 0, 0, 0, a, b, c, d]))
    };
    assert_eq!(bytes(24), Some(Ok(24)));
    assert_eq!(bytes(MAX_LIST_BYTES), Some(Ok(65536)));
    for wrong in [0, 23, 65537, u32::MAX] {
        let Some(Err(Failure::Check(sense))) = bytes(wrong) else {
            panic!("{wrong}");
        };
        assert_eq!(sense.to_fixed_bytes()[12..14], [0x1a, 0x00]);
    }
    assert_eq!(reservations.data_out_bytes(&command(&[0x2a])), None);
}
