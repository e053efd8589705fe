//! What a fuzzer calls: any bytes at all, as a peer might send them. A panic is the only failure.

use bytes::Bytes;

use crate::login::{
    Account, Admission, Algorithm, Authentication, ChapPolicy, InitiatorChap, InitiatorLogin,
    InitiatorOffer, InitiatorStep, Secret, TargetLogin, TargetOffer, TargetStep,
};
use crate::wire::bhs::{LoginRequest, LoginResponse};
use crate::wire::{Header, Pdu};

/// A login, both ends of it: the first byte says what is demanded of the peer, the rest are PDUs, each a byte of flags,
/// two bytes of length and a text. Nobody who has not proven what was demanded gets in.
pub fn login_whole(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else {
        return;
    };
    let (Some(alice), Some(disk)) = (account("alice"), account("disk")) else {
        return;
    };
    let authentication = Authentication {
        portal_group_tag: 1,
        none: kind & 1 != 0,
        chap: (kind & 2 != 0).then(|| ChapPolicy {
            accounts: vec![alice.clone()],
            mutual: (kind & 4 != 0).then(|| disk.clone()),
            algorithms: Algorithm::ALL.to_vec(),
            identifier: kind,
            challenge: vec![kind; 16],
        }),
    };
    let chap = (kind & 8 != 0).then(|| InitiatorChap {
        account: alice,
        mutual: (kind & 16 != 0).then_some(disk),
        algorithms: Algorithm::ALL.to_vec(),
        identifier: kind,
        challenge: vec![kind; 16],
    });
    towards_the_target(rest, &authentication);
    towards_the_initiator(rest, chap);
}

fn towards_the_target(mut bytes: &[u8], authentication: &Authentication) {
    let mut login = TargetLogin::new(TargetOffer::default());
    while let Some((flags, text)) = next(&mut bytes) {
        let header = LoginRequest {
            opcode: 0x43,
            flags,
            ..LoginRequest::default()
        };
        let mut step = login.handle(&Pdu::new(header, text));
        if let TargetStep::Identified(_) = step {
            step = login.authenticate(authentication.clone());
        }
        if let TargetStep::Authenticated { account, .. } = step {
            assert!(
                account.is_some() || authentication.none,
                "nothing was proven"
            );
            step = login.admit(Admission {
                tsih: 1,
                command_window: 1,
            });
        }
        if let TargetStep::Reply(pdu) = step {
            assert!(pdu.data.len() <= 8192, "longer than a PDU of the login");
        }
    }
}

fn towards_the_initiator(mut bytes: &[u8], chap: Option<InitiatorChap>) {
    let (Ok(name), Ok(target)) = ("iqn.2026-01.a:i".parse(), "iqn.2026-01.a:t".parse()) else {
        return;
    };
    let owed = chap.as_ref().is_some_and(|chap| chap.mutual.is_some());
    let mut login = InitiatorLogin::new(InitiatorOffer {
        chap,
        ..InitiatorOffer::normal(name, target, [0x80, 0, 0, 0, 0, 1])
    });
    login.start();
    while let Some((flags, text)) = next(&mut bytes) {
        let header = LoginResponse {
            opcode: 0x23,
            flags,
            ..LoginResponse::default()
        };
        match login.handle(&Pdu::new(header, text)) {
            Ok(InitiatorStep::Send(pdu)) => {
                let operational = matches!(pdu.header, Header::LoginRequest(request) if request.flags & 0x0c != 0);
                assert!(!(owed && operational), "the target owes its proof");
            }
            Ok(_) | Err(_) => break,
        }
    }
}

fn account(name: &str) -> Option<Account> {
    Some(Account {
        name: name.to_owned(),
        secret: Secret::new(format!("{name} and a secret")).ok()?,
    })
}

/// The next PDU's flags and text.
fn next(bytes: &mut &[u8]) -> Option<(u8, Bytes)> {
    let (&[flags, high, low], rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])).min(rest.len()));
    *bytes = rest;
    Some((flags, Bytes::copy_from_slice(text)))
}

#[cfg(test)]
mod tests {
    use super::login_whole;
    use proptest::prelude::{any, prop, proptest};

    const WORDS: &[&str] = &[
        "InitiatorName=iqn.2026-01.a:i\0TargetName=iqn.2026-01.a:t\0",
        "SessionType=Discovery\0",
        "AuthMethod=CHAP,None\0",
        "AuthMethod=CHAP\0",
        "AuthMethod=None\0",
        "CHAP_A=8,5\0",
        "CHAP_A=5\0",
        "CHAP_I=1\0CHAP_C=0x00112233445566778899aabbccddeeff\0",
        "CHAP_N=alice\0CHAP_R=0x00112233445566778899aabbccddeeff\0",
        "CHAP_N=disk\0CHAP_R=0bAAAA\0",
        "MaxBurstLength=",
        "16777215",
        "\0",
        "=",
        "HeaderDigest=CRC32C\0",
    ];

    proptest! {
        #[test]
        fn no_login_panics_or_is_let_in(
            kind in any::<u8>(),
            pdus in prop::collection::vec(
                (
                    prop::sample::select(vec![0x00u8, 0x04, 0x40, 0x44, 0x81, 0x83, 0x87, 0xff]),
                    prop::collection::vec(prop::sample::select(WORDS), 0..6),
                ),
                0..8,
            ),
        ) {
            let mut bytes = vec![kind];
            for (flags, words) in pdus {
                let text = words.concat();
                let [high, low] = u16::try_from(text.len()).unwrap().to_be_bytes();
                bytes.extend([flags, high, low]);
                bytes.extend(text.as_bytes());
            }
            login_whole(&bytes);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            login_whole(&bytes);
        }
    }
}
