//! The framer against bytes spelled out, against a whole stream in any pieces, and against nonsense.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::NopOut;
use iscsi_proto::wire::framer::{Digests, FrameError, Framed, Framer, encode};
use iscsi_proto::wire::{Header, Pdu};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

/// The Read(10) command of RFC 7143 §A.4, and the digest given there.
const READ_10: [u8; 48] = [
    0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, //
    0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
    0x18, //
    0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
const READ_10_DIGEST: [u8; 4] = [0x56, 0x3a, 0x96, 0xd9];

fn framer(header: bool, data: bool) -> Framer {
    let mut framer = Framer::new(8192);
    framer.set_digests(header, data);
    framer
}

fn wire(pdu: &Pdu, header: bool, data: bool) -> Vec<u8> {
    let mut out = VecDeque::new();
    encode(pdu, Digests { header, data }, &mut out);
    out.into_iter().flatten().collect()
}

fn nop_out(data: &'static [u8]) -> Pdu {
    Pdu::new(NopOut::default(), Bytes::from_static(data))
}

/// RFC 7143 §11.2.3 and §A.4: the header digest, and none of data that is not there.
#[test]
fn the_header_digest_of_the_standard_is_taken_and_written() {
    let mut input = BytesMut::from(&READ_10[..]);
    input.extend_from_slice(&READ_10_DIGEST);
    let Ok(Some(Framed::Pdu(pdu))) = framer(true, true).next(&mut input) else {
        panic!("no PDU")
    };
    let Header::ScsiCommand(command) = pdu.header else {
        panic!("no SCSI Command")
    };
    assert_eq!(command.initiator_task_tag.get(), 0x1400_0000);
    assert_eq!(command.expected_data_transfer_length.get(), 1024);
    assert!(input.is_empty() && pdu.data.is_empty());
    assert_eq!(
        wire(&pdu, true, true),
        [&READ_10[..], &READ_10_DIGEST].concat(),
        "no data, no data digest"
    );
}

#[test]
fn a_damaged_header_ends_the_stream() {
    for bit in 0..52 * 8 {
        let mut input = BytesMut::from(&[&READ_10[..], &READ_10_DIGEST].concat()[..]);
        input[bit / 8] ^= 1 << (bit % 8);
        // A damaged length may make the header seem longer: then it waits for bytes that belong to the next PDU.
        input.extend_from_slice(&[0; 1024]);
        assert_eq!(
            framer(true, false).next(&mut input),
            Err(FrameError::HeaderDigest),
            "bit {bit}"
        );
    }
}

/// Thirty-two zero bytes of data have the digest aa 36 91 8a (RFC 7143 §A.4).
#[test]
fn the_data_digest_of_the_standard_is_taken_and_written() {
    let mut expected = vec![0; 48];
    expected[7] = 32;
    expected.extend_from_slice(&[0; 32]);
    expected.extend_from_slice(&[0xaa, 0x36, 0x91, 0x8a]);
    let pdu = nop_out(&[0; 32]);
    assert_eq!(wire(&pdu, false, true), expected);
    let mut input = BytesMut::from(&expected[..]);
    let Ok(Some(Framed::Pdu(taken))) = framer(false, true).next(&mut input) else {
        panic!("no PDU")
    };
    assert_eq!((taken.data, input.len()), (pdu.data, 0));
}

/// Thirty bytes of data and two of padding, all ones: 43 ab a8 62 covers the padding too (RFC 7143 §11.1, §11.2.4 and
/// §A.4).
#[test]
fn padding_may_be_anything_and_is_inside_the_digest() {
    let mut bytes = vec![0; 48];
    bytes[7] = 30;
    bytes.extend_from_slice(&[0xff; 32]);
    bytes.extend_from_slice(&[0x43, 0xab, 0xa8, 0x62]);
    let mut input = BytesMut::from(&bytes[..]);
    let Ok(Some(Framed::Pdu(pdu))) = framer(false, true).next(&mut input) else {
        panic!("no PDU")
    };
    assert_eq!(pdu.data, vec![0xff; 30]);
    assert_eq!(
        wire(&pdu, false, false)[48 + 30..],
        [0, 0],
        "we pad with zeros"
    );
}

#[test]
fn damaged_data_is_told_and_the_stream_goes_on() {
    let mut bytes = wire(&nop_out(b"abcde"), true, true);
    let damaged = bytes.len() - 6;
    bytes[damaged] ^= 1;
    let mut input =
        BytesMut::from(&[&bytes[..], &wire(&nop_out(b"next"), true, true)].concat()[..]);
    let mut framer = framer(true, true);
    let Ok(Some(Framed::DataDigestError(Header::NopOut(header)))) = framer.next(&mut input) else {
        panic!()
    };
    assert_eq!(header.data_segment_length.get(), 5);
    let Ok(Some(Framed::Pdu(next))) = framer.next(&mut input) else {
        panic!("no PDU")
    };
    assert_eq!(next.data.as_ref(), b"next");
}

#[test]
fn a_segment_longer_than_declared_is_refused_before_it_arrives() {
    let mut bytes = [0; 48];
    bytes[6] = 0x20;
    assert_eq!(
        Framer::new(8192).next(&mut BytesMut::from(&bytes[..])),
        Ok(None)
    );
    bytes[7] = 1;
    let refused = Err(FrameError::TooLong {
        length: 8193,
        limit: 8192,
    });
    assert_eq!(
        Framer::new(8192).next(&mut BytesMut::from(&bytes[..])),
        refused
    );
    let mut framer = Framer::new(8192);
    framer.set_max_data_segment(8193);
    assert_eq!(framer.next(&mut BytesMut::from(&bytes[..])), Ok(None));
    assert_eq!(framer.missing(), 8196);
}

#[test]
fn nothing_is_copied() {
    let mut input = BytesMut::from(&wire(&nop_out(b"abcdefgh"), false, false)[..]);
    let place = input.as_ptr() as usize + 48;
    let Ok(Some(Framed::Pdu(pdu))) = Framer::new(8192).next(&mut input) else {
        panic!("no PDU")
    };
    assert_eq!(pdu.data.as_ptr() as usize, place);
    let mut out = VecDeque::new();
    encode(&pdu, Digests::default(), &mut out);
    assert_eq!(out[1].as_ptr() as usize, place);
}

/// RFC 7143 §11.2.1.5 and §11.2.1.6: words of additional segments, bytes of data without their padding.
#[test]
fn lengths_in_the_header_are_set() {
    let mut pdu = nop_out(b"abc");
    pdu.ahs = Bytes::from_static(&[0, 1, 0x3e, 7, 0, 1, 0x3e, 8]);
    let bytes = wire(&pdu, false, false);
    assert_eq!(bytes[4..8], [2, 0, 0, 3]);
    assert_eq!(
        bytes[48..],
        [0, 1, 0x3e, 7, 0, 1, 0x3e, 8, b'a', b'b', b'c', 0]
    );
}

/// Everything that a stream holds, however it is cut.
fn take_all(stream: &[u8], cuts: &[usize], mut framer: Framer) -> Result<Vec<Framed>, FrameError> {
    let mut input = BytesMut::new();
    let mut taken = Vec::new();
    let mut cuts = cuts.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
        input.extend_from_slice(piece);
        rest = after;
        while let Some(framed) = framer.next(&mut input)? {
            taken.push(framed);
        }
    }
    Ok(taken)
}

const OPCODES: [u8; 19] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31,
    0x32, 0x3f, 0x1c,
];

proptest! {
    /// RFC 7143 §11.2 and §11.2.1: header, additional segments, data, each with its digest, whatever the opcode.
    #[test]
    fn every_opcode_survives_in_any_pieces(
        pdus in prop::collection::vec(
            (0usize..OPCODES.len(), any::<[u8; 48]>(), 0usize..8, prop::collection::vec(any::<u8>(), 0..70)),
            1..6,
        ),
        cuts in prop::collection::vec(1usize..80, 1..6),
        header in any::<bool>(),
        data in any::<bool>(),
    ) {
        let mut sent = Vec::new();
        let mut stream = Vec::new();
        for (opcode, mut bytes, ahs_words, segment) in pdus {
            bytes[0] = bytes[0] & 0xc0 | OPCODES[opcode];
            bytes[4] = u8::try_from(ahs_words).unwrap();
            bytes[5..8].copy_from_slice(&[0, 0, u8::try_from(segment.len()).unwrap()]);
            let ahs = Bytes::from(vec![0x5a; ahs_words * 4]);
            let pdu = Pdu { header: Header::decode(&bytes), ahs, data: Bytes::from(segment) };
            prop_assert_eq!(pdu.header.as_bytes(), &bytes);
            stream.extend(wire(&pdu, header, data));
            sent.push(Framed::Pdu(pdu));
        }
        prop_assert_eq!(take_all(&stream, &cuts, framer(header, data)), Ok(sent));
    }

    #[test]
    fn no_bytes_panic(
        stream in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec(1usize..100, 1..6),
        header in any::<bool>(),
        data in any::<bool>(),
    ) {
        // The outcome does not depend on the cuts.
        let whole = take_all(&stream, &[usize::MAX], framer(header, data));
        prop_assert_eq!(take_all(&stream, &cuts, framer(header, data)), whole);
    }

    #[test]
    fn short_segments_of_nonsense_are_cut_without_a_digest(mut head in any::<[u8; 48]>(), length in 0u32..64) {
        head[4] = 0;
        let [_, a, b, c] = length.to_be_bytes();
        head[5..8].copy_from_slice(&[a, b, c]);
        let padded = usize::try_from(length).unwrap().next_multiple_of(4);
        let mut input = BytesMut::from(&[&head[..], &[0x77; 64]].concat()[..]);
        let Ok(Some(Framed::Pdu(pdu))) = Framer::new(64).next(&mut input) else { panic!("no PDU") };
        prop_assert_eq!(pdu.data.len(), usize::try_from(length).unwrap());
        prop_assert_eq!(input.len(), 64 - padded);
    }
}
