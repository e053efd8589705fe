//! Both ends of the login, back to back, for every combination of what they want of each other (RFC 7143 §9.2.1,
//! §12.1): who gets in, and as whom.

use iscsi_proto::login::{
    Account, Admission, Algorithm, Authentication, ChapPolicy, InitiatorChap, InitiatorLogin,
    InitiatorOffer, InitiatorStep, LoginError, LoginStatus, Secret, TargetLogin, TargetOffer,
    TargetStep, Unproven,
};
use iscsi_proto::wire::Pdu;

/// How a login ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The account that was proven.
    In(Option<String>),
    /// The target's status.
    Refused(u8, u8),
    /// The initiator hangs up.
    Left(LoginError),
}

/// What an initiator has to prove itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Nothing,
    NothingAndSkips,
    Right,
    WrongSecret,
    WrongName,
}

fn account(name: &str, secret: &str) -> Account {
    Account {
        name: name.to_owned(),
        secret: Secret::new(secret).expect("a secret"),
    }
}

fn initiator(ours: Ours, mutual: Option<&Account>, algorithms: &[Algorithm]) -> InitiatorOffer {
    let account = match ours {
        Ours::Nothing | Ours::NothingAndSkips => None,
        Ours::Right => Some(account("alice", "the right secret")),
        Ours::WrongSecret => Some(account("alice", "the wrong secret")),
        Ours::WrongName => Some(account("mallory", "the right secret")),
    };
    let name = "iqn.1999-07.com.os:hostid.77".parse().expect("a name");
    let target = "iqn.1999-07.com.example:diskarray".parse().expect("a name");
    InitiatorOffer {
        skip_security: ours == Ours::NothingAndSkips,
        chap: account.map(|account| InitiatorChap {
            account,
            mutual: mutual.cloned(),
            algorithms: algorithms.to_vec(),
            identifier: 1,
            challenge: vec![1; 32],
        }),
        ..InitiatorOffer::normal(name, target, [0x80, 0, 0, 0, 0, 1])
    }
}

/// Lets both talk until one has enough.
fn join(offer: InitiatorOffer, authentication: &Authentication) -> End {
    let mut initiator = InitiatorLogin::new(offer);
    let mut target = TargetLogin::new(TargetOffer::default());
    let mut account = None;
    let mut request = initiator.start();
    for _ in 0..12 {
        let (reply, finished) = match answered(&mut target, &request, authentication, &mut account)
        {
            TargetStep::Reply(reply) => (reply, false),
            TargetStep::Finished { reply, .. } => (reply, true),
            TargetStep::Failed {
                reply: Some(reply),
                status: LoginStatus { class, detail },
                ..
            } => {
                let told = initiator.handle(&reply);
                assert!(matches!(told, Ok(InitiatorStep::Refused(_))), "{told:?}");
                return End::Refused(class, detail);
            }
            other => panic!("{other:?}"),
        };
        match initiator.handle(&reply) {
            Ok(InitiatorStep::Send(next)) if !finished => request = next,
            Ok(InitiatorStep::Finished(_)) if finished => return End::In(account),
            Err(error) => return End::Left(error),
            other => panic!("the ends disagree about the end: {other:?}"),
        }
    }
    panic!("the login does not end");
}

fn answered(
    target: &mut TargetLogin,
    request: &Pdu,
    authentication: &Authentication,
    proven: &mut Option<String>,
) -> TargetStep {
    let mut step = target.handle(request);
    if let TargetStep::Identified(_) = step {
        step = target.authenticate(authentication.clone());
    }
    if let TargetStep::Authenticated { account, .. } = step {
        *proven = account;
        step = target.admit(Admission {
            tsih: 7,
            command_window: 1,
        });
    }
    step
}

/// What has to happen, said without looking at how it happens. Whose turn comes first decides who is disappointed.
fn expected(
    ours: Ours,
    wants: Option<bool>,
    (none, chap): (bool, bool),
    proves: Option<bool>,
    common: bool,
) -> End {
    let keyless = matches!(ours, Ours::Nothing | Ours::NothingAndSkips);
    let wants = if keyless { None } else { wants };
    if keyless {
        return if none {
            End::In(None)
        } else {
            End::Refused(2, 1)
        };
    }
    if !chap {
        return if none && wants.is_none() {
            End::In(None)
        } else {
            End::Refused(2, 1)
        };
    }
    if !common || ours != Ours::Right {
        return End::Refused(2, 1);
    }
    match (wants, proves) {
        (None, _) => End::In(Some("alice".to_owned())),
        (Some(_), None) => End::Refused(2, 1),
        (Some(true), Some(true)) => End::In(Some("alice".to_owned())),
        (Some(_), Some(_)) => End::Left(LoginError::Unproven(Unproven::Credentials)),
    }
}

#[test]
fn every_combination_ends_as_it_must() {
    use Algorithm::{Md5, Sha1, Sha3_256, Sha256};
    let genuine = account("disk", "the secret of the disk");
    let impostor = account("disk", "what somebody guessed");
    let orders: [&[Algorithm]; 4] = [&Algorithm::ALL, &[Md5], &[Sha1, Sha256], &[Sha3_256, Md5]];
    let everybody = [
        Ours::Nothing,
        Ours::NothingAndSkips,
        Ours::Right,
        Ours::WrongSecret,
        Ours::WrongName,
    ];
    let mut combinations = 0;
    for ours in everybody {
        // Wants no proof; wants that of the genuine disk; has another disk in mind.
        for wants in [None, Some(true), Some(false)] {
            for methods in [(true, false), (true, true), (false, true), (false, false)] {
                for proves in [None, Some(true)] {
                    for offered in orders {
                        for allowed in orders {
                            let wanted =
                                wants.map(|right| if right { &genuine } else { &impostor });
                            let authentication = Authentication {
                                portal_group_tag: 1,
                                none: methods.0,
                                chap: methods.1.then(|| ChapPolicy {
                                    accounts: vec![account("alice", "the right secret")],
                                    mutual: proves.map(|_| genuine.clone()),
                                    algorithms: allowed.to_vec(),
                                    identifier: 2,
                                    challenge: vec![2; 32],
                                }),
                            };
                            let end = join(initiator(ours, wanted, offered), &authentication);
                            let common = offered.iter().any(|one| allowed.contains(one));
                            assert_eq!(
                                end,
                                expected(ours, wants, methods, proves, common),
                                "{ours:?}, wants {wants:?}, {methods:?}, proves {proves:?}, {offered:?} and {allowed:?}"
                            );
                            combinations += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 5 * 3 * 4 * 2 * 4 * 4);
}
