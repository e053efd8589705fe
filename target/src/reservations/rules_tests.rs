//! Six types, three kinds of nexuses, and every command: what SPC-4 and SBC-3 let through.

use iscsi_proto::scsi::Command;
use iscsi_proto::scsi::persistent::ReservationType;

use super::State;
use crate::failure::Failure;
use crate::reservations::testing::{Story, nexus, reserve};

const HOLDER: u8 = 1;
const REGISTRANT: u8 = 2;
const STRANGER: u8 = 3;

fn command(bytes: &[u8]) -> Command {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    Command::parse(&cdb).unwrap()
}

fn read() -> Command {
    command(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])
}

fn write() -> Command {
    command(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0])
}

fn inquiry() -> Command {
    command(&[0x12, 0, 0, 0, 36, 0])
}

/// 1 holds a reservation, 2 is registered, 3 is not.
fn reserved(kind: u8) -> State {
    let mut story = Story::of(&[(HOLDER, 1), (REGISTRANT, 2)]);
    let kind = ReservationType::from_code(kind).unwrap();
    story.tell(HOLDER, reserve(1, kind));
    State {
        persistent: story.now,
        ..State::default()
    }
}

fn legacy() -> State {
    State {
        legacy: Some(nexus(HOLDER)),
        ..State::default()
    }
}

fn allows(state: &State, number: u8, command: &Command) -> bool {
    match state.check(&nexus(number), command) {
        Ok(()) => true,
        Err(failure) => {
            assert_eq!(failure, Failure::Conflict);
            false
        }
    }
}

/// SPC-4 §5.13.1: for each type, who may read, write, and ask.
#[test]
fn types_and_nexuses() {
    let (yes, no) = (true, false);
    let expected = [
        // Holder, registrant, stranger; each: read, write, INQUIRY.
        (1, [[yes, yes, yes], [yes, no, yes], [yes, no, yes]]),
        (3, [[yes, yes, yes], [no, no, yes], [no, no, yes]]),
        (5, [[yes, yes, yes], [yes, yes, yes], [yes, no, yes]]),
        (6, [[yes, yes, yes], [yes, yes, yes], [no, no, yes]]),
        (7, [[yes, yes, yes], [yes, yes, yes], [yes, no, yes]]),
        (8, [[yes, yes, yes], [yes, yes, yes], [no, no, yes]]),
    ];
    for (kind, expected) in expected {
        let state = reserved(kind);
        let found = [HOLDER, REGISTRANT, STRANGER]
            .map(|who| [read(), write(), inquiry()].map(|command| allows(&state, who, &command)));
        assert_eq!(found, expected, "type {kind}");
    }
}

/// SPC-4 §5.13.1, SBC-3 §4.17, SPC-2 §5.5.1: what passes somebody else's Write Exclusive, Exclusive Access, RESERVE.
#[test]
fn every_command() {
    let (yes, no) = (true, false);
    let rows: [(&str, &[u8], [bool; 3]); _] = [
        ("TEST UNIT READY", &[0x00], [yes, yes, no]),
        ("REQUEST SENSE", &[0x03, 0, 0, 0, 18], [yes, yes, yes]),
        ("INQUIRY", &[0x12, 0, 0, 0, 36], [yes, yes, yes]),
        (
            "REPORT LUNS",
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1],
            [yes, yes, yes],
        ),
        ("LOG SENSE", &[0x4d, 0, 0x40], [yes, yes, yes]),
        ("READ CAPACITY(10)", &[0x25], [yes, yes, yes]),
        ("READ CAPACITY(16)", &[0x9e, 0x10], [yes, yes, yes]),
        ("REPORT TARGET PORT GROUPS", &[0xa3, 0x0a], [yes, yes, yes]),
        ("ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 0], [yes, yes, yes]),
        ("PREVENT MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 1], [no, no, no]),
        ("START UNIT", &[0x1b, 0, 0, 0, 1], [yes, yes, yes]),
        ("STOP UNIT", &[0x1b, 0, 0, 0, 0], [no, no, no]),
        ("standby", &[0x1b, 0, 0, 0, 0x30], [no, no, no]),
        ("MODE SENSE(6)", &[0x1a, 0, 0x3f, 0, 255], [yes, no, no]),
        ("MODE SENSE(10)", &[0x5a, 0, 0x3f], [yes, no, no]),
        ("MODE SELECT(6)", &[0x15, 0x10], [no, no, no]),
        ("READ(6)", &[0x08, 0, 0, 0, 1], [yes, no, no]),
        ("READ(16)", &[0x88], [yes, no, no]),
        ("VERIFY(10)", &[0x2f], [yes, no, no]),
        ("PRE-FETCH(10)", &[0x34], [yes, no, no]),
        ("GET LBA STATUS", &[0x9e, 0x12], [yes, no, no]),
        ("READ DEFECT DATA(10)", &[0x37], [yes, no, no]),
        ("RECEIVE COPY RESULTS", &[0x84, 0x03], [yes, no, no]),
        (
            "REPORT SUPPORTED OPERATION CODES",
            &[0xa3, 0x0c],
            [yes, no, no],
        ),
        (
            "REPORT SUPPORTED TASK MANAGEMENT",
            &[0xa3, 0x0d],
            [yes, no, no],
        ),
        ("WRITE(6)", &[0x0a, 0, 0, 0, 1], [no, no, no]),
        ("WRITE(16)", &[0x8a], [no, no, no]),
        ("WRITE AND VERIFY(10)", &[0x2e], [no, no, no]),
        ("WRITE SAME(16)", &[0x93], [no, no, no]),
        ("COMPARE AND WRITE", &[0x89], [no, no, no]),
        ("ORWRITE(16)", &[0x8b], [no, no, no]),
        ("WRITE ATOMIC(16)", &[0x9c], [no, no, no]),
        ("UNMAP", &[0x42], [no, no, no]),
        ("SYNCHRONIZE CACHE(10)", &[0x35], [no, no, no]),
        ("EXTENDED COPY", &[0x83], [no, no, no]),
        ("SANITIZE", &[0x48, 0x03], [no, no, no]),
    ];
    for (name, cdb, expected) in rows {
        let command = command(cdb);
        let states = [reserved(1), reserved(3), legacy()];
        let found = states
            .each_ref()
            .map(|state| allows(state, STRANGER, &command));
        assert_eq!(found, expected, "{name}");
        assert!(states.iter().all(|state| allows(state, HOLDER, &command)));
        // Without a reservation everybody may do everything.
        assert!(allows(&State::default(), STRANGER, &command), "{name}");
    }
}

/// SPC-4 §5.13.1: PERSISTENT RESERVE IN always; PERSISTENT RESERVE OUT of a stranger to register only. Whether one who
/// is registered may do the rest depends on keys.
#[test]
fn persistent_commands() {
    for kind in [1, 3, 5, 6, 7, 8] {
        let state = reserved(kind);
        for action in 0..4 {
            let report = command(&[0x5e, action, 0, 0, 0, 0, 0, 0, 8]);
            assert!(allows(&state, STRANGER, &report));
        }
        for action in 0..8 {
            let order = command(&[0x5f, action, 0x01, 0, 0, 0, 0, 0, 24]);
            let registers = [0, 6].contains(&action);
            assert_eq!(allows(&state, STRANGER, &order), registers, "{action}");
            assert!(allows(&state, REGISTRANT, &order), "{action}");
        }
    }
}

/// SPC-2 §5.5.1: PERSISTENT RESERVE conflicts with RESERVE, whoever holds it.
#[test]
fn persistent_commands_beside_reserve() {
    let state = legacy();
    for who in [HOLDER, STRANGER] {
        assert!(!allows(&state, who, &command(&[0x5e, 0x02])));
        assert!(!allows(
            &state,
            who,
            &command(&[0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24])
        ));
    }
}

/// SPC-4 §5.13.3 with CRH: RESERVE and RELEASE are idle for those whom a persistent reservation leaves free, and
/// conflict for everybody else as long as anybody is registered (SPC-2 §5.5.1).
#[test]
fn reserve_beside_registrations() {
    let (yes, no) = (true, false);
    let rows = [
        (1, [yes, no, no]),
        (3, [yes, no, no]),
        (5, [yes, yes, no]),
        (6, [yes, yes, no]),
        (7, [yes, yes, no]),
        (8, [yes, yes, no]),
    ];
    for (kind, expected) in rows {
        let mut state = reserved(kind);
        for cdb in [0x16, 0x56, 0x17, 0x57] {
            let found =
                [HOLDER, REGISTRANT, STRANGER].map(|who| allows(&state, who, &command(&[cdb])));
            assert_eq!(found, expected, "type {kind}, {cdb:02x}h");
        }
        state.reserve(&nexus(HOLDER));
        assert_eq!(state.legacy, None);
    }
    let registered = State {
        persistent: Story::of(&[(REGISTRANT, 2)]).now,
        ..State::default()
    };
    for who in [REGISTRANT, STRANGER] {
        assert!(!allows(&registered, who, &command(&[0x16])));
        assert!(!allows(&registered, who, &command(&[0x17])));
    }
}

/// SPC-2 §7.16, §7.21: a second RESERVE of the holder is no conflict, a RELEASE of somebody else changes nothing.
#[test]
fn reserve_and_release() {
    let mut state = State::default();
    assert!(allows(&state, HOLDER, &command(&[0x16])));
    state.reserve(&nexus(HOLDER));
    assert!(allows(&state, HOLDER, &command(&[0x16])));
    assert!(!allows(&state, STRANGER, &command(&[0x16])));
    assert!(!allows(&state, STRANGER, &command(&[0x00])));
    assert!(allows(&state, STRANGER, &command(&[0x17])));
    state.release(&nexus(STRANGER));
    assert_eq!(state.legacy, Some(nexus(HOLDER)));
    state.release(&nexus(HOLDER));
    assert!(allows(&state, STRANGER, &command(&[0x00])));
}
