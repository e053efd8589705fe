//! The fields of Login Request and Login Response one by one (RFC 7143 §11.12, §11.13).

use iscsi_proto::login::{LoginStatus, TargetLogin, TargetStep};
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::serial::Serial;

use crate::{
    ADMISSION, NAMES, OPEN, admit, ask, edited, failed, finished, flags, handle, login, reply,
    request, text,
};

fn field<const N: usize>(pdu: &Pdu, offset: usize) -> [u8; N] {
    let bytes = &pdu.header.as_bytes()[offset..offset + N];
    bytes.try_into().expect("so many bytes")
}

/// A login in the operational stage that was let in, and its first response.
fn operational(first: &Pdu) -> (TargetLogin, Pdu) {
    let mut login = login();
    let answer = reply(handle(&mut login, first));
    (login, answer)
}

/// RFC 7143 §11.12.1, §11.13.6: the target transits only if the initiator wishes it, and to what it wishes.
#[test]
fn transit_bit() {
    for (asked, answered) in [
        (0x00, 0x00),
        (0x81, 0x81),
        // The operational stage is skipped, which is the initiator's choice.
        (0x83, 0x83),
        (0x04, 0x04),
        (0x87, 0x87),
    ] {
        let mut login = login();
        let step = handle(&mut login, &request(asked, NAMES));
        let (TargetStep::Reply(pdu) | TargetStep::Finished { reply: pdu, .. }) = &step else {
            panic!("{step:?}")
        };
        assert_eq!(flags(pdu), answered, "{asked:#04x}");
        let full_feature = matches!(step, TargetStep::Finished { .. });
        assert_eq!(full_feature, answered & 0x83 == 0x83, "{asked:#04x}");
    }
}

/// RFC 7143 §6.3: "the T bit settings in one Login Request-Login Response pair have no bearing on [...] the next pair".
#[test]
fn a_wish_holds_for_one_request() {
    let (mut login, first) = operational(&request(0x04, NAMES));
    assert_eq!(flags(&first), 0x04);
    assert_eq!(flags(&reply(login.handle(&request(0x04, "")))), 0x04);
    let (last, _) = finished(login.handle(&request(0x87, "")));
    assert_eq!(flags(&last), 0x87);
}

/// RFC 7143 §11.12.2, §11.13.7: C without T, and the response to it without data.
#[test]
fn continue_bit() {
    let mut login = login();
    let (front, back) = NAMES.split_at(20);
    let first = reply(login.handle(&request(0x44, front)));
    assert_eq!((flags(&first), first.data.len()), (0x04, 0));
    ask(&mut login, &request(0x87, back));
    finished(admit(&mut login));
    let mut both = crate::login();
    assert_eq!(
        failed(both.handle(&request(0xc7, NAMES))),
        (2, 0),
        "C and T"
    );
}

/// RFC 7143 §11.12.3: the stage is the one that was reached, and it is not left unasked.
#[test]
fn stages() {
    let (mut security, _) = operational(&request(0x00, NAMES));
    assert_eq!(failed(security.handle(&request(0x04, ""))), (2, 0));
    let (mut operational, _) = operational(&request(0x81, NAMES));
    assert_eq!(failed(operational.handle(&request(0x00, ""))), (2, 0));
}

/// RFC 7143 §11.12.4, §11.12.4.1, §11.12.4.2, §11.13.1, §11.13.2: the version is 0; who starts above it is told so.
#[test]
fn versions() {
    let (_, answer) = operational(&edited(&request(0x81, NAMES), 2, 7));
    assert_eq!(field(&answer, 2), [0, 0], "Version-max and Version-active");
    let newer = edited(&edited(&request(0x81, NAMES), 2, 7), 3, 1);
    let step = login().handle(&newer);
    let TargetStep::Failed {
        reply: Some(pdu), ..
    } = &step
    else {
        panic!("{step:?}")
    };
    assert_eq!(field(pdu, 2), [0, 0], "the lowest version supported");
    assert_eq!(field(pdu, 36), [0x02, 0x05]);
}

/// RFC 7143 §11.12.5, §11.13: ISID and Initiator Task Tag come back as they were sent, of whatever format.
#[test]
fn isids() {
    for first in [0x00, 0x40, 0x80, 0xc0] {
        let (_, answer) = operational(&edited(&request(0x81, NAMES), 8, first));
        assert_eq!(field(&answer, 8), [first, 0, 0, 0, 0, 1]);
        assert_eq!(field(&answer, 16), [0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(field(&answer, 20), [0; 4], "no CID in a response");
    }
}

/// RFC 7143 §11.12.6, §11.13.3: the new handle is told in the final response and not before.
#[test]
fn session_handles() {
    let (mut login, first) = operational(&request(0x81, NAMES));
    assert_eq!(field(&first, 14), [0, 0]);
    let second = reply(login.handle(&request(0x04, "")));
    assert_eq!(field(&second, 14), [0, 0]);
    let (last, _) = finished(login.handle(&request(0x87, "")));
    assert_eq!(field(&last, 14), [0x01, 0x02]);

    // A connection to be added to a session: the driver hears the handle, and so does the initiator.
    let mut adding = crate::login();
    let identity = ask(&mut adding, &edited(&request(0x87, NAMES), 15, 9));
    assert_eq!(identity.tsih, 9);
    let TargetStep::Failed {
        reply: Some(pdu), ..
    } = adding.refuse(LoginStatus::SESSION_DOES_NOT_EXIST)
    else {
        panic!()
    };
    assert_eq!((field(&pdu, 14), field(&pdu, 36)), ([0, 9], [0x02, 0x0a]));

    // 0 is no handle.
    let mut zero = crate::login();
    ask(&mut zero, &request(0x87, NAMES));
    zero.authenticate(OPEN);
    let admission = iscsi_proto::login::Admission {
        tsih: 0,
        ..ADMISSION
    };
    assert_eq!(failed(zero.admit(admission)), (3, 0));
}

/// RFC 7143 §11.12.7, §11.12.6, §11.12.5: all requests of a login carry the same identifiers.
#[test]
fn identifiers_stay() {
    for offset in [8, 13, 14, 15, 16, 19, 20, 21] {
        let (mut login, _) = operational(&request(0x81, NAMES));
        let other = edited(&request(0x87, ""), offset, 0x77);
        assert_eq!(failed(login.handle(&other)), (2, 0), "byte {offset}");
    }
}

/// RFC 7143 §11.12.8: the CmdSN of the leading login is what the target expects, then and afterwards.
#[test]
fn command_numbers() {
    for cmd_sn in [[0, 0, 0, 0], [0xff, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]] {
        let mut first = request(0x81, NAMES);
        let mut second = request(0x87, "");
        for (index, byte) in cmd_sn.into_iter().enumerate() {
            first = edited(&first, 24 + index, byte);
            second = edited(&second, 24 + index, byte);
        }
        let (mut login, answer) = operational(&first);
        assert_eq!(field(&answer, 28), cmd_sn, "ExpCmdSN");
        let (last, outcome) = finished(login.handle(&second));
        assert_eq!(field(&last, 28), cmd_sn, "a login is immediate");
        let expected = u32::from_be_bytes(cmd_sn);
        assert_eq!(outcome.next_cmd_sn, Serial(expected));
        let max = u32::from_be_bytes(field(&last, 32));
        assert_eq!(max, expected.wrapping_add(31), "a window of 32");
    }
}

/// RFC 7143 §11.12.9: ExpStatSN of the first request belongs to another connection; no value of it does harm.
#[test]
fn expected_status_numbers() {
    let mut first = request(0x81, NAMES);
    for offset in 28..32 {
        first = edited(&first, offset, 0xee);
    }
    let (mut login, _) = operational(&first);
    finished(login.handle(&request(0x87, "")));
}

/// RFC 7143 §11.13.4: every response takes the next StatSN, whichever the first.
#[test]
fn status_numbers() {
    let (mut login, first) = operational(&request(0x00, NAMES));
    let start = u32::from_be_bytes(field(&first, 24));
    let second = reply(handle(&mut login, &request(0x81, "")));
    let third = reply(login.handle(&request(0x44, "X-a=")));
    let (last, outcome) = finished(login.handle(&request(0x87, "1\0")));
    for (step, pdu) in (1..).zip([&second, &third, &last]) {
        assert_eq!(u32::from_be_bytes(field(pdu, 24)), start + step);
    }
    assert_eq!(outcome.next_stat_sn, Serial(start + 4));
}

/// RFC 7143 §11.12.10, §11.13.8: what both sides must say at least, and where the portal group is told: once, with the
/// first response that may carry it (§6.3.1).
#[test]
fn parameters() {
    for names in [
        NAMES.to_owned(),
        "SessionType=Discovery\0InitiatorName=iqn.1999-07.com.os:hostid.77\0".to_owned(),
    ] {
        let (mut login, first) = operational(&request(0x00, &names));
        assert_eq!(text(&first), "TargetPortalGroupTag=3\0");
        let second = reply(handle(&mut login, &request(0x81, "")));
        assert_eq!(text(&second), "", "never again");
        let (last, _) = finished(login.handle(&request(0x87, "")));
        assert_eq!(text(&last), "MaxRecvDataSegmentLength=262144\0");
    }
}

/// RFC 7143 §7.12, §6.3: failed negotiations end with a status, and the connection with them; whatever comes then is
/// not even answered. §11.13: T, CSG and NSG of a reject are reserved.
#[test]
fn failures_are_final() {
    let mut login = login();
    let step = handle(&mut login, &request(0x87, &format!("{NAMES}{NAMES}")));
    let TargetStep::Failed {
        reply: Some(pdu), ..
    } = &step
    else {
        panic!("{step:?}")
    };
    assert_eq!((flags(pdu), field(pdu, 36)), (0x00, [0x02, 0x00]));
    for keys in [NAMES, ""] {
        assert!(matches!(
            login.handle(&request(0x87, keys)),
            TargetStep::Failed { reply: None, .. }
        ));
    }
}

/// RFC 7143 §11.2.1.1: Login Requests count as immediate, marked so or not.
#[test]
fn the_immediate_bit_is_not_asked_for() {
    let (mut login, _) = operational(&edited(&request(0x81, NAMES), 0, 0x03));
    finished(login.handle(&edited(&request(0x87, ""), 0, 0x03)));
}
