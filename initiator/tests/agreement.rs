//! What several paths tell of one unit: another size, a restart; and how long one of them can keep the others waiting.

#[path = "harness/array.rs"]
mod array;
mod harness;
#[path = "harness/scene.rs"]
mod scene;

use std::time::Duration;

use array::{Array, BLOCK, Event, SWITCHED_ON};
use harness::{options, soon, with_outage};
use iscsi_initiator::{
    CacheLoss, Class, Error, Options, Outage, PathState, Resize, Span, Volume, VolumeError,
};
use iscsi_proto::scsi::Sense;
use iscsi_proto::scsi::port_groups::AccessState;
use scene::{Scene, access, block};
use tokio::task::JoinHandle;

fn following() -> Options {
    Options {
        resize: Resize::Follow,
        ..options()
    }
}

/// SBC-3 §4.7: CAPACITY DATA HAS CHANGED, told to each path at another time.
#[tokio::test]
async fn a_unit_that_grows_is_followed_when_all_paths_know() {
    let scene = Scene::new(following()).await;
    assert_eq!(scene.remote.geometry().blocks(), 64);
    scene.array.resize(128);
    scene.array.limit(1, Some(64));
    scene.array.tell(0, Sense::CAPACITY_CHANGED);
    for _ in 0..4 {
        scene.read(1).await.expect("read");
    }
    let beyond = soon(scene.remote.write(127 * BLOCK as u64, block(7))).await;
    assert!(matches!(beyond, Err(VolumeError::OutOfRange)), "{beyond:?}");

    // The second port learns of it, and does not say so by itself.
    scene.array.limit(1, None);
    scene.array.tell(0, Sense::CAPACITY_CHANGED);
    for _ in 0..4 {
        scene.read(1).await.expect("read");
    }
    scene
        .until(|_, remote| remote.geometry().blocks() == 128)
        .await;
    for byte in 1..8 {
        scene.write(127, byte).await;
    }
    assert_eq!(scene.read(127).await.expect("read"), block(7));
    let ports: Vec<_> = (0..2)
        .map(|port| {
            let written = |event: &&Event| matches!(event, Event::Write(at, 127, _) if *at == port);
            scene.changes().iter().filter(written).count()
        })
        .collect();
    assert_eq!(ports.iter().sum::<usize>(), 7, "each was written once");
    assert!(ports.iter().all(|count| *count > 0), "{ports:?}");
}

/// A write that is under way when its path is lost is carried out once, whatever became of the size meanwhile.
#[tokio::test]
async fn no_write_is_lost_or_doubled_while_the_unit_grows() {
    let scene = Scene::new(following()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let held = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene.array.resize(128);
    for port in [0, 1] {
        scene.array.tell(port, Sense::CAPACITY_CHANGED);
    }
    scene.wires[0].set_down(true);
    soon(held).await.expect("no panic").expect("written");
    assert_eq!(scene.array.land(), 0);
    scene
        .until(|_, remote| remote.geometry().blocks() == 128)
        .await;
    scene.array.hold(0, false);
    scene.wires[0].set_down(false);
    scene
        .until(|_, remote| matches!(remote.paths()[0].state, PathState::Connected))
        .await;
    scene.write(100, 0xa2).await;
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0xa1),
            Event::Reset(1),
            Event::Write(1, 7, 0xa1),
            Event::Write(0, 100, 0xa2)
        ]
    );
}

/// A port that is not active cannot be asked, and need not be; when it becomes active it is.
#[tokio::test]
async fn a_standby_path_learns_of_the_size_when_it_takes_over() {
    let scene = Scene::new(following()).await;
    scene.array.set_access(1, AccessState::STANDBY);
    for _ in 0..2 {
        scene.read(1).await.expect("read");
    }
    scene
        .until(|_, remote| access(remote, 1) == AccessState::STANDBY)
        .await;
    scene.array.resize(128);
    scene.array.limit(1, Some(64));
    scene.array.tell(0, Sense::CAPACITY_CHANGED);
    scene.read(1).await.expect("read");
    scene
        .until(|_, remote| remote.geometry().blocks() == 128)
        .await;
    scene.array.set_access(1, AccessState::ACTIVE_OPTIMIZED);
    scene.array.set_access(0, AccessState::STANDBY);
    scene.read(1).await.expect("read");
    scene
        .until(|_, remote| remote.geometry().blocks() == 64)
        .await;
}

#[tokio::test]
async fn a_unit_that_grows_is_fenced_unless_that_is_wanted() {
    let scene = Scene::new(options()).await;
    scene.array.resize(128);
    for port in [0, 1] {
        scene.array.tell(port, Sense::CAPACITY_CHANGED);
    }
    let read = scene.read(1).await;
    assert!(matches!(read, Err(VolumeError::Corrupt)), "{read:?}");
    scene
        .until(|_, remote| {
            let paths = remote.paths();
            let refused = |path: &iscsi_initiator::PathStatus| {
                matches!(path.state, PathState::Refused(Error::Changed))
            };
            paths.iter().all(refused)
        })
        .await;
    let read = scene.read(1).await;
    assert!(matches!(read, Err(VolumeError::Corrupt)), "{read:?}");
    assert_eq!(scene.remote.geometry().blocks(), 64);
}

/// A unit with a volatile cache, over two paths of one target; commands take the first one.
async fn cached(cache_loss: CacheLoss) -> Scene {
    let array = Array::new(64, 2);
    array.use_write_cache();
    let options = Options {
        cache_loss,
        ..options()
    };
    let scene = Scene::of(array, options).await;
    scene.prefer_first().await;
    scene
}

impl Scene {
    /// Makes commands take that path, and no other.
    async fn take(&self, path: usize) {
        self.array.set_access(path, AccessState::ACTIVE_OPTIMIZED);
        self.array.set_access(1 - path, AccessState::STANDBY);
        self.read(0).await.expect("read");
        self.until(|_, remote| {
            access(remote, path) == AccessState::ACTIVE_OPTIMIZED
                && access(remote, 1 - path) == AccessState::STANDBY
        })
        .await;
    }

    fn flushes(&self) -> Vec<Event> {
        let mut journal = self.array.journal();
        journal.retain(|event| matches!(event, Event::Flush(_)));
        journal
    }
}

/// SPC-4 §5.16: what one path wrote is lost, and another one is told of it and flushes.
#[tokio::test]
async fn a_loss_is_not_missed_by_the_path_that_wrote_nothing() {
    let scene = cached(CacheLoss::FailFlush).await;
    scene.write(7, 0xa1).await;
    scene.take(1).await;
    for port in [0, 1] {
        scene.array.tell(port, SWITCHED_ON);
    }
    let flush = soon(scene.remote.flush()).await;
    assert!(flush.is_err(), "{flush:?}");
    assert_eq!(scene.remote.cache_losses(), 1);
    soon(scene.remote.flush()).await.expect("flushed");
}

/// A flush covers what was written over any path, so there is nothing to lose afterwards.
#[tokio::test]
async fn a_flush_over_another_path_covers_all() {
    let scene = cached(CacheLoss::FailFlush).await;
    scene.write(7, 0xa1).await;
    scene.take(1).await;
    soon(scene.remote.flush()).await.expect("flushed");
    assert_eq!(scene.flushes(), [Event::Flush(1)]);
    for port in [0, 1] {
        scene.array.tell(port, SWITCHED_ON);
    }
    scene.take(0).await;
    soon(scene.remote.flush()).await.expect("flushed");
    assert_eq!(scene.remote.cache_losses(), 0);
}

/// Each path tells of the same restart; what was written after the first telling is not lost.
#[tokio::test]
async fn a_restart_that_is_told_twice_is_one() {
    let scene = cached(CacheLoss::Report).await;
    scene.write(7, 0xa1).await;
    scene.wires[1].set_down(true);
    scene
        .until(|_, remote| matches!(remote.paths()[1].state, PathState::Lost(_)))
        .await;
    scene.array.tell(0, SWITCHED_ON);
    scene.read(1).await.expect("read");
    scene.until(|_, remote| remote.cache_losses() == 1).await;
    scene.write(8, 0xb1).await;
    scene.array.greet();
    scene.wires[1].set_down(false);
    scene
        .until(|_, remote| matches!(remote.paths()[1].state, PathState::Connected))
        .await;
    scene.take(1).await;
    soon(scene.remote.flush()).await.expect("flushed");
    assert_eq!(scene.remote.cache_losses(), 1);
    // Another one is another one.
    scene.write(9, 0xc1).await;
    for port in [0, 1] {
        scene.array.tell(port, SWITCHED_ON);
    }
    soon(scene.remote.flush()).await.expect("flushed");
    assert_eq!(scene.remote.cache_losses(), 2);
}

/// Many targets greet every session like that; the other path knows that nothing happened.
#[tokio::test]
async fn a_path_that_was_lost_alone_is_no_restart() {
    let scene = cached(CacheLoss::FailFlush).await;
    scene.array.greet();
    scene.write(7, 0xa1).await;
    scene.wires[0].cut();
    scene
        .until(|_, remote| {
            let path = &remote.paths()[0];
            path.logins == 2 && matches!(path.state, PathState::Connected)
        })
        .await;
    scene.read(1).await.expect("read");
    soon(scene.remote.flush()).await.expect("flushed");
    assert_eq!(scene.remote.cache_losses(), 0);
    // Both are lost: nobody contradicts.
    scene.write(8, 0xb1).await;
    scene.wires.iter().for_each(harness::Wire::cut);
    scene
        .until(|_, remote| {
            let paths = remote.paths();
            paths.iter().all(|path| path.logins >= 2)
        })
        .await;
    let flush = soon(scene.remote.flush()).await;
    assert!(flush.is_err(), "{flush:?}");
    assert_eq!(scene.remote.cache_losses(), 1);
}

/// A write in doubt on the first path, which is lost, and a read that never ends on the second, which lives.
async fn hang(options: Options) -> (Scene, [JoinHandle<Result<(), VolumeError>>; 2]) {
    let options = Options {
        ping_interval: None,
        command_timeout: None,
        ..options
    };
    let scene = Scene::new(options).await;
    scene.take(1).await;
    scene.array.set_silent(1, true);
    let reads = || {
        let journal = scene.array.journal();
        let on_second = journal.iter().filter(|event| **event == Event::Read(1));
        on_second.count()
    };
    let before = reads();
    let remote = scene.remote.clone();
    let hanging = tokio::spawn(async move {
        let read = remote.read(Span::new(0, BLOCK as u64), Class::Demand);
        read.await.map(drop)
    });
    scene.until(|_, _| reads() > before).await;
    scene.take(0).await;
    scene.array.hold(0, true);
    let doubted = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene
        .array
        .set_access_silently(1, AccessState::ACTIVE_OPTIMIZED);
    scene.wires[0].set_down(true);
    (scene, [hanging, doubted])
}

/// No ping fails and no command takes too long, and still a fence does not wait for ever.
#[tokio::test]
async fn a_second_path_that_is_silent_holds_up_a_fence_for_a_while_only() {
    let options = Options {
        ping_timeout: Duration::from_millis(300),
        ..options()
    };
    let options = Options {
        reconnect: with_outage(Outage::Wait).reconnect,
        ..options
    };
    let (scene, [hanging, doubted]) = hang(options).await;
    soon(doubted).await.expect("no panic").expect("written");
    assert_eq!(scene.array.land(), 0);
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0xa1),
            Event::Reset(1),
            Event::Write(1, 7, 0xa1)
        ]
    );
    assert!(!hanging.is_finished(), "it is tried again");
    hanging.abort();
}

/// The policy for outages holds for those who wait for a fence, too.
#[tokio::test]
async fn who_waits_for_a_fence_loses_patience() {
    let options = Options {
        ping_timeout: Duration::from_secs(3600),
        ..with_outage(Outage::Deadline(Duration::from_millis(300)))
    };
    let (scene, [hanging, doubted]) = hang(options).await;
    let lost = soon(doubted).await.expect("no panic");
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(scene.changes(), [Event::Write(0, 7, 0xa1)]);
    hanging.abort();
}

/// What a status shows of each path.
#[tokio::test]
async fn paths_are_counted_and_named() {
    let scene = Scene::new(with_outage(Outage::Fail)).await;
    scene.prefer_first().await;
    let [first, second] = scene.remote.paths().try_into().expect("two");
    assert!(first.in_use && !second.in_use);
    assert_eq!((first.port_group, second.port_group), (Some(11), Some(12)));
    let before = first.commands;
    for _ in 0..5 {
        scene.read(1).await.expect("read");
    }
    let first = &scene.remote.paths()[0];
    assert!(first.commands >= before + 5, "{first:?}");
    assert_eq!(first.failures, 0);
    scene.array.hold(0, true);
    let lost = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene.wires[0].set_down(true);
    soon(lost).await.expect("no panic").expect("written");
    let [first, second] = scene.remote.paths().try_into().expect("two");
    assert!(first.failures > 0, "{first:?}");
    assert!(!first.in_use && second.in_use);
}
