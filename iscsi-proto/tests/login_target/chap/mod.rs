//! CHAP as a target demands it (RFC 7143 §9.2.1, §12.1.3). Responses were computed with Python's hashlib.

mod accepted;
mod refused;

use iscsi_proto::login::{
    Account, Algorithm, Authentication, ChapPolicy, Secret, TargetLogin, TargetStep, Violation,
};

use crate::{NAMES, ask, failed, flags, login, reply, request, text};

/// 00 01 .. 0f, to be hashed after 2a and "secret secret".
const CHALLENGE: &str = "CHAP_A=5\0CHAP_I=42\0CHAP_C=0x000102030405060708090a0b0c0d0e0f\0";

const MD5: &str = "0xf261face79416a5c7e0f7971b47f836d";

/// 64 65 .. 73, to be hashed after 07 and "another secret".
const MUTUAL: &str = "CHAP_I=7\0CHAP_C=0x6465666768696a6b6c6d6e6f70717273\0";

pub(crate) fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret"),
    }
}

fn policy() -> ChapPolicy {
    ChapPolicy {
        accounts: vec![
            account("bob", "a third secret"),
            account("alice", "secret secret"),
        ],
        mutual: Some(account("disk", "another secret")),
        algorithms: Algorithm::ALL.to_vec(),
        identifier: 42,
        challenge: (0..16).collect(),
    }
}

fn demand(chap: ChapPolicy) -> Authentication {
    Authentication {
        portal_group_tag: 3,
        none: false,
        chap: Some(chap),
    }
}

/// A login whose method is settled by a request of these flags.
fn chosen(flags: u8, policy: ChapPolicy) -> TargetLogin {
    let mut login = login();
    ask(
        &mut login,
        &request(flags, &format!("{NAMES}AuthMethod=CHAP,None\0")),
    );
    let first = reply(login.authenticate(demand(policy)));
    assert_eq!(
        (crate::flags(&first), text(&first)),
        (0x00, "TargetPortalGroupTag=3\0AuthMethod=CHAP\0"),
        "no transition, and one PDU"
    );
    login
}

/// A login that has sent its challenge for MD5.
fn challenged(policy: ChapPolicy) -> TargetLogin {
    let mut login = chosen(0x00, policy);
    let second = reply(login.handle(&request(0x00, "CHAP_A=5\0")));
    assert_eq!((flags(&second), text(&second)), (0x00, CHALLENGE));
    login
}

/// The account that was proven.
fn proven(step: TargetStep) -> String {
    match step {
        TargetStep::Authenticated {
            account: Some(account),
            ..
        } => account,
        other => panic!("nothing was proven: {other:?}"),
    }
}

/// The failed step's status and cause; nothing more is said.
fn refused(step: TargetStep) -> (u8, u8, Violation) {
    let TargetStep::Failed {
        reply: Some(reply),
        violation: Some(violation),
        ..
    } = &step
    else {
        panic!("not refused: {step:?}")
    };
    assert!(reply.data.is_empty(), "{:?}", text(reply));
    let violation = *violation;
    let (class, detail) = failed(step);
    (class, detail, violation)
}

fn answer(login: &mut TargetLogin, keys: &str) -> TargetStep {
    login.handle(&request(0x81, keys))
}
