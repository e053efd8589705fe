//! Keys that nobody negotiates: obsolete ones, private ones, those of others (RFC 7143 §12.1, §13.22 to §13.26).

use iscsi_proto::login::{DigestPolicy, LoginStatus, TargetLogin, TargetOffer};

use crate::each_key::{discovery, normal, status};
use crate::{NAMES, failed, handle, login, request, text};

/// RFC 7143 §13.22, §6.2: private keys, and whatever else nobody knows, are not understood; they may come again in
/// no request, either.
#[test]
fn private_keys() {
    for key in [
        "X-com.example.bar.do_something",
        "X#private",
        "Z-key",
        "x",
        "maxBurstLength",
        "A.b-c+d@e_f",
    ] {
        assert_eq!(
            normal(&format!("{key}=3\0")).0,
            format!("{key}=NotUnderstood\0")
        );
        assert_eq!(status(0x87, &format!("{NAMES}{key}=3\0{key}=3\0")), (2, 0));
    }
    assert_eq!(
        normal("X-a=NotUnderstood\0").0,
        "",
        "an answer is not answered"
    );
    let mut security = login();
    let first = crate::reply(handle(
        &mut security,
        &request(0x81, &format!("{NAMES}X-a=1\0")),
    ));
    assert_eq!(
        text(&first),
        "TargetPortalGroupTag=3\0X-a=NotUnderstood\0",
        "in either stage"
    );
}

/// RFC 7143 §13.25: No, or Reject, but never NotUnderstood.
#[test]
fn markers() {
    for (key, proposed, answer) in [
        ("IFMarker", "Yes", "No"),
        ("IFMarker", "No", "No"),
        ("OFMarker", "Yes", "No"),
        ("IFMarkInt", "1~65535", "Reject"),
        ("OFMarkInt", "2048", "Reject"),
    ] {
        for of in [normal, discovery] {
            assert_eq!(
                of(&format!("{key}={proposed}\0")).0,
                format!("{key}={answer}\0")
            );
        }
    }
}

/// RFC 7143 §13.26.2: "a valid behavior [...] may be that a node [...] simply discards any key values it receives
/// without issuing a NotUnderstood response".
#[test]
fn node_architecture() {
    for of in [normal, discovery] {
        assert_eq!(
            of("X#NodeArchitecture=ExampleOS/v1234,CPU_Arch/i686\0").0,
            ""
        );
    }
    let keys = format!("{NAMES}X#NodeArchitecture=a\0X#NodeArchitecture=b\0");
    assert_eq!(status(0x87, &keys), (2, 0), "redeclared");
}

/// RFC 7143 §12.1: AuthMethod belongs to the security stage; §12.1.1, §12.1.2: the keys of methods that we lack are
/// not understood (§11.13.8 allows that).
#[test]
fn methods_of_others() {
    assert_eq!(status(0x87, &format!("{NAMES}AuthMethod=None\0")), (2, 0));
    let mut login = login();
    let keys = format!("{NAMES}AuthMethod=KRB5,SRP,Z-com.example,None\0SRP_U=me\0TargetAuth=No\0");
    let first = crate::reply(handle(&mut login, &request(0x81, &keys)));
    assert_eq!(
        text(&first),
        "TargetPortalGroupTag=3\0AuthMethod=None\0SRP_U=NotUnderstood\0TargetAuth=NotUnderstood\0"
    );
}

/// RFC 7143 §6.2: a key that the standard knows must be understood by whom it is proposed to.
#[test]
fn our_own_proposals_must_be_understood() {
    let demanding = TargetOffer {
        digests: DigestPolicy::Require,
        ..TargetOffer::default()
    };
    for (answer, status) in [
        (
            "HeaderDigest=NotUnderstood\0DataDigest=CRC32C\0",
            LoginStatus::INITIATOR_ERROR,
        ),
        (
            "HeaderDigest=Reject\0DataDigest=CRC32C\0",
            LoginStatus::INITIATOR_ERROR,
        ),
        (
            "HeaderDigest=CRC32C,None\0DataDigest=CRC32C\0",
            LoginStatus::INITIATOR_ERROR,
        ),
    ] {
        let mut login = TargetLogin::new(demanding.clone());
        let first = crate::reply(handle(&mut login, &request(0x87, NAMES)));
        assert!(text(&first).ends_with("HeaderDigest=CRC32C\0DataDigest=CRC32C\0"));
        assert_eq!(
            failed(login.handle(&request(0x87, answer))),
            (status.class, status.detail)
        );
    }
}

/// A text of the smallest keys does not make the target say, or keep, more than it should.
#[test]
fn too_many_keys_end_the_login() {
    let keys = |count: u32| (0..count).map(|n| format!("X{n}=\0")).collect::<String>();
    let mut enough = login();
    let step = handle(
        &mut enough,
        &request(0x87, &format!("{NAMES}{}", keys(1022))),
    );
    assert!(crate::reply(step).data.len() == 8192);
    assert_eq!(status(0x87, &format!("{NAMES}{}", keys(1023))), (2, 0));
}
