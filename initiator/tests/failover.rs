//! What becomes of commands when paths are lost, stall or change their access, against an array that a test directs.

#[path = "harness/array.rs"]
mod array;
mod harness;
#[path = "harness/scene.rs"]
mod scene;

use std::time::Duration;

use array::{Array, BLOCK, Event};
use harness::{options, soon, with_outage};
use iscsi_initiator::{Bytes, Class, Error, Outage, PathState, Span, Volume};
use iscsi_proto::scsi::port_groups::AccessState;
use scene::{Scene, access, block};

/// RFC 7143 §11.5.1: the unit is reset before a write in doubt is repeated, so what the lost path holds never lands.
#[tokio::test]
async fn a_write_in_doubt_is_fenced_before_it_is_repeated() {
    let scene = Scene::new(options()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let old = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene.wires[0].set_down(true);
    soon(old).await.expect("no panic").expect("written");
    scene.write(7, 0xa2).await;
    assert_eq!(scene.array.land(), 0, "nothing lands late");
    assert_eq!(scene.read(7).await.expect("read"), block(0xa2));
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0xa1),
            Event::Reset(1),
            Event::Write(1, 7, 0xa1),
            Event::Write(1, 7, 0xa2)
        ]
    );
    assert_eq!(scene.remote.paths()[1].portal_group_tag, Some(2));
}

/// RFC 7143 §6.3.5: in one portal group a login under the name of the lost session ends it, and disturbs nobody else.
#[tokio::test]
async fn a_lost_session_of_the_same_portal_group_is_ended_by_a_login() {
    let array = Array::new(64, 2);
    array.make_one_group();
    let scene = Scene::of(array, options()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let old = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene.wires[0].set_down(true);
    soon(old).await.expect("no panic").expect("written");
    assert_eq!(scene.array.land(), 0);
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0xa1),
            Event::Reinstated(1),
            Event::Write(1, 7, 0xa1)
        ]
    );
    assert_eq!(scene.remote.paths()[1].portal_group_tag, Some(1));
}

/// A newer write of the same blocks waits for the older one; one beside it waits for the fence alone.
#[tokio::test]
async fn overlapping_writes_keep_their_order_through_a_failover() {
    let scene = Scene::new(options()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let old = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    let new = scene.begin_write(7, 0xa2);
    let beside = scene.begin_write(8, 0xb1);
    scene.until(|array, _| array.held() == 2).await;
    scene.wires[0].set_down(true);
    for write in [old, new, beside] {
        soon(write).await.expect("no panic").expect("written");
    }
    let changes = scene.changes();
    let place = |event| changes.iter().position(|other| *other == event);
    assert!(place(Event::Write(0, 7, 0xa2)).is_none(), "{changes:?}");
    assert!(
        place(Event::Reset(1)) < place(Event::Write(1, 7, 0xa1)),
        "{changes:?}"
    );
    assert!(
        place(Event::Write(1, 7, 0xa1)) < place(Event::Write(1, 7, 0xa2)),
        "{changes:?}"
    );
    assert!(
        place(Event::Reset(1)) < place(Event::Write(1, 8, 0xb1)),
        "{changes:?}"
    );
    assert_eq!(scene.read(7).await.expect("read"), block(0xa2));
    assert_eq!(scene.read(8).await.expect("read"), block(0xb1));
}

/// The future is gone, the write is not: what comes after it is safe all the same.
#[tokio::test]
async fn a_dropped_write_leaves_its_doubt_behind() {
    let scene = Scene::new(options()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let dropped = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    dropped.abort();
    scene.wires[0].set_down(true);
    scene.write(7, 0xa2).await;
    assert_eq!(scene.array.land(), 0);
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0xa1),
            Event::Reset(1),
            Event::Write(1, 7, 0xa2)
        ]
    );
}

/// SBC-3 §5.2: a comparison would meet its own bytes, so it is not repeated; but its blocks are safe from it.
#[tokio::test]
async fn a_comparison_in_doubt_is_not_repeated_but_fenced() {
    let scene = Scene::new(options()).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    let remote = scene.remote.clone();
    let compare = async move {
        let range =
            iscsi_initiator::RawCommand::new(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0]);
        let both = Bytes::from([[0u8; BLOCK], [0xcc; BLOCK]].concat());
        let transfer = iscsi_initiator::Transfer::Write(both);
        remote
            .execute_raw(range.expect("a command"), transfer, Class::Demand)
            .await
    };
    let compare = tokio::spawn(compare);
    scene.until(|array, _| array.held() == 1).await;
    scene.wires[0].set_down(true);
    let lost = soon(compare).await.expect("no panic");
    assert!(matches!(lost, Err(Error::Interrupted)), "{lost:?}");
    scene.write(7, 0xa2).await;
    assert_eq!(scene.array.land(), 0);
    assert_eq!(
        scene.changes(),
        [
            Event::Write(0, 7, 0),
            Event::Reset(1),
            Event::Write(1, 7, 0xa2)
        ]
    );
}

/// Where nothing ends what is in doubt, no change is sent; reads are.
#[tokio::test]
async fn a_unit_that_refuses_resets_gets_no_change_while_one_is_in_doubt() {
    let patience = Duration::from_millis(300);
    let scene = Scene::new(with_outage(Outage::Deadline(patience))).await;
    scene.prefer_first().await;
    scene.array.hold(0, true);
    scene.array.refuse_resets();
    let old = scene.begin_write(7, 0xa1);
    scene.until(|array, _| array.held() == 1).await;
    scene.wires[0].set_down(true);
    assert!(soon(old).await.expect("no panic").is_err());
    let other = soon(scene.remote.write_through(8 * BLOCK as u64, &block(0xb1))).await;
    assert!(matches!(other, Err(Error::Unreachable(_))), "{other:?}");
    assert_eq!(scene.read(7).await.expect("read"), block(0));
    assert_eq!(scene.changes(), [Event::Write(0, 7, 0xa1)]);
    // The session that comes back ends what it left behind.
    scene.array.hold(0, false);
    scene.wires[0].set_down(false);
    scene
        .until(|_, remote| matches!(remote.paths()[0].state, PathState::Connected))
        .await;
    scene.write(8, 0xb2).await;
}

/// SPC-4 §5.15.2: the optimized way first, then the other one, and none that is not active.
#[tokio::test]
async fn access_states_are_followed() {
    let scene = Scene::new(options()).await;
    scene.prefer_first().await;
    let reads = |array: &Array, port| {
        let journal = array.journal();
        journal
            .iter()
            .filter(|event| **event == Event::Read(port))
            .count()
    };
    let before = reads(&scene.array, 1);
    for _ in 0..20 {
        scene.read(1).await.expect("read");
    }
    assert_eq!(reads(&scene.array, 1), before, "the long way is left alone");

    // Told by a Unit Attention at the next command.
    scene.array.set_access(0, AccessState::STANDBY);
    scene.read(1).await.expect("read");
    scene
        .until(|_, remote| access(remote, 0) == AccessState::STANDBY)
        .await;
    let before = reads(&scene.array, 0);
    for _ in 0..20 {
        scene.read(1).await.expect("read");
    }
    assert_eq!(reads(&scene.array, 0), before);

    // Told by nobody but the command that meets it.
    scene
        .array
        .set_access_silently(0, AccessState::ACTIVE_OPTIMIZED);
    scene.array.set_access_silently(1, AccessState::UNAVAILABLE);
    scene.write(3, 0xd1).await;
    assert_eq!(scene.changes(), [Event::Write(0, 3, 0xd1)]);
    assert_eq!(access(&scene.remote, 1), AccessState::UNAVAILABLE);
}

/// SPC-4 §5.15.2.5: a transition ends by itself, and commands wait for that whatever the policy for outages is.
#[tokio::test]
async fn a_transition_is_waited_for() {
    let scene = Scene::new(with_outage(Outage::Fail)).await;
    for port in [0, 1] {
        scene
            .array
            .set_access_silently(port, AccessState::TRANSITIONING);
    }
    let waiting = scene.begin_write(3, 0xd1);
    scene
        .until(|_, remote| (0..2).all(|path| access(remote, path) == AccessState::TRANSITIONING))
        .await;
    assert!(!waiting.is_finished());
    scene
        .array
        .set_access_silently(1, AccessState::ACTIVE_OPTIMIZED);
    soon(waiting).await.expect("no panic").expect("written");
    assert_eq!(scene.changes(), [Event::Write(1, 3, 0xd1)]);
    for port in [0, 1] {
        scene.array.set_access_silently(port, AccessState::STANDBY);
    }
    let refused = soon(scene.remote.write_through(0, &block(1))).await;
    assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
}

/// A port that answers nothing, on a connection that is open: reads go elsewhere long before a ping fails.
#[tokio::test]
async fn a_silent_path_is_avoided() {
    let scene = Scene::new(options()).await;
    for _ in 0..20 {
        scene.read(1).await.expect("read");
    }
    scene.array.set_silent(0, true);
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let remote = scene.remote.clone();
            tokio::spawn(async move { remote.read(Span::new(0, 512), Class::Demand).await })
        })
        .collect();
    scene
        .until(|array, _| {
            let journal = array.journal();
            let reads = journal
                .iter()
                .filter(|event| matches!(event, Event::Read(_)));
            reads.count() >= 22
        })
        .await;
    // More are under way on the other path than hang on this one, and still nothing goes there.
    for _ in 0..20 {
        scene.until(|_, remote| !remote.paths()[0].in_use).await;
        let four = [scene.read(1), scene.read(2), scene.read(3), scene.read(4)];
        let [a, b, c, d] = four;
        let all = tokio::join!(a, b, c, d);
        assert!(matches!(all, (Ok(_), Ok(_), Ok(_), Ok(_))));
    }
    assert!(hanging.iter().any(|read| !read.is_finished()));
    // What hangs is carried out elsewhere when the path is lost.
    scene.wires[0].set_down(true);
    for read in hanging {
        soon(read).await.expect("no panic").expect("read");
    }
}
