//! Parameter data byte by byte, and what hostile bytes come to.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{
    Capabilities, FullStatus, Held, Keys, MoveList, OutList, Registrant, ReservationReport,
    ReservationType, TransportId, parse_full_status, parse_keys,
};
use crate::scsi::SenseData;

fn port(name: &str, isid: [u8; 6]) -> TransportId {
    TransportId::Port(name.parse().unwrap(), isid)
}

fn bytes_of(id: &TransportId) -> Vec<u8> {
    let mut out = BytesMut::new();
    id.put(&mut out);
    out.to_vec()
}

/// SPC-4 §7.6.4.6: the name ends with a zero and is filled up to a multiple of four, at least to twenty bytes.
#[test]
fn a_device_is_a_name() {
    let short = TransportId::Device("iqn.2001-04.a:b".parse().unwrap());
    let mut expected = vec![0x05, 0, 0, 20];
    expected.extend(b"iqn.2001-04.a:b\0\0\0\0\0");
    assert_eq!(bytes_of(&short), expected);
    assert_eq!(TransportId::parse(&expected), Some((short, 24)));
    // Twenty characters need a zero, and that needs three more.
    let full = TransportId::Device("iqn.2001-04.a:bcdefg".parse().unwrap());
    let mut expected = vec![0x05, 0, 0, 24];
    expected.extend(b"iqn.2001-04.a:bcdefg\0\0\0\0");
    assert_eq!(bytes_of(&full), expected);
}

/// RFC 7143 §4.4.2: the name of an initiator port. SPC-4 §7.6.4.6: the separator and the ISID as hexadecimal digits.
#[test]
fn a_port_has_an_isid() {
    let id = port("iqn.2001-04.a:b", [0x40, 0x00, 0x01, 0x37, 0x00, 0x0a]);
    let mut expected = vec![0x45, 0, 0, 36];
    expected.extend(b"iqn.2001-04.a:b,i,0x40000137000a\0\0\0\0");
    assert_eq!(bytes_of(&id), expected);
    let mut upper = vec![0x45, 0, 0, 36];
    upper.extend(b"iqn.2001-04.A:B,i,0x40000137000A\0\0\0\0");
    assert_eq!(TransportId::parse(&upper), Some((id, 40)));
    let mut few = vec![0x45, 0, 0, 24];
    few.extend(b"iqn.2001-04.a:b,i,0x37\0\0");
    let expected = port("iqn.2001-04.a:b", [0, 0, 0, 0, 0, 0x37]);
    assert_eq!(TransportId::parse(&few), Some((expected, 28)));
}

#[test]
fn what_is_no_transport_id() {
    let with = |head: [u8; 4], text: &[u8]| {
        let bytes = [head.as_slice(), text].concat();
        TransportId::parse(&bytes)
    };
    let sound = b"iqn.2001-04.a:b\0\0\0\0\0";
    assert!(with([0x05, 0, 0, 20], sound).is_some());
    assert_eq!(with([0x00, 0, 0, 20], sound), None, "Fibre Channel");
    assert_eq!(with([0x85, 0, 0, 20], sound), None, "format 10b");
    assert_eq!(with([0x45, 0, 0, 20], sound), None, "a port without ISID");
    assert_eq!(with([0x05, 0, 0, 16], sound), None, "too short");
    assert_eq!(with([0x05, 0, 0, 19], sound), None, "no multiple of four");
    assert_eq!(with([0x05, 0, 0, 24], sound), None, "longer than it is");
    assert_eq!(with([0x05, 0, 0, 20], b"iqn.2001-04.a:bcdefg"), None);
    assert_eq!(with([0x05, 0, 0, 20], b"host.2001-04.a:b\0\0\0\0"), None);
    for digits in ["", "+1", "1g", "0123456789abc"] {
        let text = format!("iqn.2001-04.a:b,i,0x{digits}");
        let text = format!("{text:\0<40}");
        assert_eq!(with([0x45, 0, 0, 40], text.as_bytes()), None, "{digits}");
    }
}

/// SPC-4 §6.16.3.
#[test]
fn a_parameter_list() {
    let list = OutList {
        key: 0x0102_0304_0506_0708,
        action_key: 0x1112_1314_1516_1718,
        initiators: None,
        all_ports: true,
        persist: true,
    };
    let bytes = [
        1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0, 0, 0, 0, 0x05,
        0, 0, 0,
    ];
    assert_eq!(list.build().as_ref(), bytes);
    assert_eq!(OutList::parse(&bytes), Ok(list));
    let length_error = SenseData::from(crate::scsi::Sense::new(5, 0x1a, 0));
    assert_eq!(OutList::parse(&bytes[..23]), Err(length_error));
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(OutList::parse(&longer), Err(length_error));
}

/// SPC-4 §6.16.3, SPEC_I_PT: a length and TransportIDs follow.
#[test]
fn a_list_that_names_initiators() {
    let list = OutList {
        action_key: 0xabc,
        initiators: Some(vec![
            port("iqn.2001-04.a:b", [0, 0, 0, 0, 0, 1]),
            TransportId::Device("iqn.2001-04.a:c".parse().unwrap()),
        ]),
        ..OutList::default()
    };
    let mut bytes = vec![0; 24];
    bytes[14..16].copy_from_slice(&[0x0a, 0xbc]);
    bytes[20] = 0x08;
    bytes.extend([0, 0, 0, 64]);
    bytes.extend([0x45, 0, 0, 36]);
    bytes.extend(b"iqn.2001-04.a:b,i,0x000000000001\0\0\0\0");
    bytes.extend([0x05, 0, 0, 20]);
    bytes.extend(b"iqn.2001-04.a:c\0\0\0\0\0");
    assert_eq!(list.build().as_ref(), bytes);
    assert_eq!(OutList::parse(&bytes), Ok(list));
    let refused = |bytes: &[u8]| OutList::parse(bytes).unwrap_err().to_fixed_bytes()[12..].to_vec();
    // PARAMETER LIST LENGTH ERROR where not even the length is there.
    assert_eq!(refused(&bytes[..27]), [0x1a, 0, 0, 0, 0, 0]);
    // INVALID FIELD IN PARAMETER LIST, which points at the length, or at the TransportID that is wrong.
    assert_eq!(refused(&bytes[..91]), [0x26, 0, 0, 0x8f, 0, 24]);
    bytes[68] = 0x00;
    assert_eq!(refused(&bytes), [0x26, 0, 0, 0x8f, 0, 68]);
}

/// SPC-4 §6.16.4.
#[test]
fn a_list_that_moves() {
    let list = MoveList {
        key: 1,
        action_key: 2,
        unregister: true,
        persist: false,
        relative_port: 0x0102,
        initiator: port("iqn.2001-04.a:b", [0, 0, 0, 0, 0, 1]),
    };
    let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    bytes.extend([0, 0x02, 1, 2, 0, 0, 0, 40]);
    bytes.extend([0x45, 0, 0, 36]);
    bytes.extend(b"iqn.2001-04.a:b,i,0x000000000001\0\0\0\0");
    assert_eq!(list.build().as_ref(), bytes);
    assert_eq!(MoveList::parse(&bytes), Ok(list));
    assert!(MoveList::parse(&bytes[..23]).is_err());
    assert!(MoveList::parse(&bytes[..63]).is_err());
    bytes[23] = 44;
    bytes.extend([0; 4]);
    assert_eq!(MoveList::parse(&bytes), Err(SenseData::list_field(64, 7)));
}

/// SPC-4 §6.15.2.
#[test]
fn keys() {
    let keys = Keys {
        generation: 0x0102_0304,
        keys: vec![0x11, 0x2200_0000_0000_0000],
    };
    let bytes = [
        1, 2, 3, 4, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(keys.build().as_ref(), bytes);
    assert_eq!(parse_keys(&bytes).unwrap(), keys);
    assert_eq!(parse_keys(&bytes[..23]).unwrap().keys, [0x11]);
    assert_eq!(parse_keys(&bytes[..7]), None);
}

/// SPC-4 §6.15.3.
#[test]
fn a_reservation() {
    let none = ReservationReport {
        generation: 7,
        held: None,
    };
    assert_eq!(none.build().as_ref(), [0, 0, 0, 7, 0, 0, 0, 0]);
    assert_eq!(
        ReservationReport::parse(&[0, 0, 0, 7, 0, 0, 0, 0]),
        Some(none)
    );
    let held = ReservationReport {
        generation: 7,
        held: Some(Held {
            key: 0x0102,
            kind: ReservationType::ExclusiveAccessRegistrantsOnly,
        }),
    };
    let bytes = [
        0, 0, 0, 7, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0x06, 0, 0,
    ];
    assert_eq!(held.build().as_ref(), bytes);
    assert_eq!(ReservationReport::parse(&bytes), Some(held));
    assert_eq!(ReservationReport::parse(&bytes[..23]), None);
    let codes: Vec<_> = (0..=255).filter_map(ReservationType::from_code).collect();
    assert_eq!(codes, ReservationType::ALL);
    assert_eq!(
        ReservationType::ALL.map(ReservationType::code),
        [1, 3, 5, 6, 7, 8]
    );
}

/// SPC-4 §6.15.4.
#[test]
fn capabilities() {
    let all = Capabilities {
        compatible: true,
        specify_initiators: true,
        all_ports: true,
        can_persist: true,
        persists: true,
        allow_commands: 0b011,
    };
    let bytes = [0, 8, 0x1d, 0xb1, 0xea, 0x01, 0, 0];
    assert_eq!(all.build().as_ref(), bytes);
    assert_eq!(Capabilities::parse(&bytes), all);
    let few = Capabilities::parse(&[0, 8, 0x10]);
    assert_eq!(few.build().as_ref(), [0, 8, 0x10, 0x80, 0xea, 0x01, 0, 0]);
}

/// SPC-4 §6.15.5.
#[test]
fn full_status() {
    let status = FullStatus {
        generation: 3,
        registrants: vec![
            Registrant {
                key: 0xa,
                all_ports: false,
                holds: Some(ReservationType::WriteExclusive),
                relative_port: 1,
                initiator: port("iqn.2001-04.a:b", [0, 0, 0, 0, 0, 1]),
            },
            Registrant {
                key: 0xb,
                all_ports: true,
                holds: None,
                relative_port: 2,
                initiator: TransportId::Device("iqn.2001-04.a:c".parse().unwrap()),
            },
        ],
    };
    let mut bytes = vec![0, 0, 0, 3, 0, 0, 0, 112];
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0xa, 0, 0, 0, 0, 0x01, 0x01]);
    bytes.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 40, 0x45, 0, 0, 36]);
    bytes.extend(b"iqn.2001-04.a:b,i,0x000000000001\0\0\0\0");
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0xb, 0, 0, 0, 0, 0x02, 0x00]);
    bytes.extend([0, 0, 0, 0, 0, 2, 0, 0, 0, 24, 0x05, 0, 0, 20]);
    bytes.extend(b"iqn.2001-04.a:c\0\0\0\0\0");
    assert_eq!(status.build().as_ref(), bytes);
    assert_eq!(parse_full_status(&bytes).unwrap(), status);
    let cut = parse_full_status(&bytes[..119]).unwrap();
    assert_eq!(cut.registrants, status.registrants[..1]);
    assert_eq!(parse_full_status(&bytes[..7]), None);
}

fn any_id() -> impl Strategy<Value = TransportId> {
    let name = "iqn\\.[0-9]{4}-[0-9]{2}\\.[a-z0-9.:-]{1,211}";
    let name = name.prop_map(|name| name.parse().unwrap());
    prop_oneof![
        name.clone().prop_map(TransportId::Device),
        (name, any::<[u8; 6]>()).prop_map(|(name, isid)| TransportId::Port(name, isid)),
    ]
}

proptest! {
    #[test]
    fn out_lists_come_back(
        (key, action_key, all_ports, persist) in any::<(u64, u64, bool, bool)>(),
        initiators in prop_oneof![Just(None), vec(any_id(), 0..4).prop_map(Some)],
    ) {
        let list = OutList { key, action_key, initiators, all_ports, persist };
        prop_assert_eq!(OutList::parse(&list.build()), Ok(list));
    }

    #[test]
    fn move_lists_come_back(
        (key, action_key, unregister, persist) in any::<(u64, u64, bool, bool)>(),
        (relative_port, initiator) in (any::<u16>(), any_id()),
    ) {
        let list = MoveList { key, action_key, unregister, persist, relative_port, initiator };
        prop_assert_eq!(MoveList::parse(&list.build()), Ok(list));
    }

    /// Whatever a parser takes means the same when it is written again, and nothing makes one panic. Bytes are those
    /// of a sound list with some changed, since pure noise does not get past the front.
    #[test]
    fn hostile_bytes(
        ids in vec(any_id(), 0..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let list = OutList { initiators: Some(ids), ..OutList::default() };
        let mut bytes = list.build().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(list) = OutList::parse(bytes) {
                prop_assert_eq!(OutList::parse(&list.build()), Ok(list));
            }
            if let Ok(list) = MoveList::parse(bytes) {
                prop_assert_eq!(MoveList::parse(&list.build()), Ok(list));
            }
            if let Some((id, length)) = TransportId::parse(bytes.get(28..).unwrap_or_default()) {
                prop_assert!(length <= bytes.len());
                prop_assert_eq!(TransportId::parse(&bytes_of(&id)).unwrap().0, id);
            }
            parse_full_status(bytes);
            parse_keys(bytes);
            ReservationReport::parse(bytes);
            Capabilities::parse(bytes);
        }
    }
}
