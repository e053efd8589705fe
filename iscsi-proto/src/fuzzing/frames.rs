//! A byte stream against the framer.

use bytes::{Bytes, BytesMut};

use crate::fuzzing::Source;
use crate::fuzzing::script::written;
use crate::wire::ahs::{MAX_AHS_BYTES, segments};
use crate::wire::bhs::BHS_BYTES;
use crate::wire::framer::{Digests, FrameError, Framed, Framer};
use crate::wire::{Header, Pdu};

/// The most that a PDU has beside its data segment: header, additional segments, padding, two digests.
const MOST_BESIDES: usize = BHS_BYTES + MAX_AHS_BYTES + 3 + 4 + 4;

/// Cuts a stream into PDUs: the same ones in whatever pieces it comes, each of which is read as it was written.
pub fn framer(input: &[u8]) {
    let mut source = Source::new(input);
    let control = source.byte();
    let digests = Digests {
        header: control & 0x01 != 0,
        data: control & 0x02 != 0,
    };
    let limit = source.pick(&[0, 512, 8_192, 262_144]);
    let piece = 1 + usize::from(source.byte());
    let stream = stream(&mut source, digests);
    let whole = cut(&stream, stream.len().max(1), digests, limit);
    let pieces = cut(&stream, piece, digests, limit);
    assert_eq!(whole, pieces, "pieces of {piece} bytes");
    for framed in whole.0 {
        if let Framed::Pdu(pdu) = framed {
            assert!(pdu.data.len() <= limit as usize);
            let _ = segments(&pdu.ahs);
            stays_the_same(&pdu, digests, limit);
        }
    }
}

/// PDUs as they should be, spoiled ones, and bytes without shape.
fn stream(source: &mut Source<'_>, digests: Digests) -> BytesMut {
    let mut stream = BytesMut::new();
    while !source.is_empty() {
        let kind = source.byte();
        if kind & 0x03 == 0 {
            let length = usize::from(source.byte());
            stream.extend_from_slice(source.take(length));
            continue;
        }
        let mut header = [0; BHS_BYTES];
        let given = source.take(BHS_BYTES);
        header[..given.len()].copy_from_slice(given);
        let words = usize::from(source.byte() % 8);
        let mut ahs = source.take(words * 4).to_vec();
        ahs.resize(words * 4, 0);
        let length = usize::from(source.half() % 1_024);
        let pdu = Pdu {
            header: Header::decode(&header),
            ahs: ahs.into(),
            data: Bytes::copy_from_slice(source.take(length)),
        };
        let begin = stream.len();
        stream.extend_from_slice(&written(&pdu, digests));
        if kind & 0x03 == 1 {
            let length = stream.len() - begin;
            stream[begin + usize::from(source.half()) % length] ^= 1 << (kind >> 5);
        }
    }
    stream
}

/// What the framer makes of a stream that comes in pieces, until it is at its end or refuses to go on.
fn cut(
    stream: &[u8],
    piece: usize,
    digests: Digests,
    limit: u32,
) -> (Vec<Framed>, Option<FrameError>) {
    let mut framer = Framer::new(limit);
    framer.set_digests(digests.header, digests.data);
    let (mut input, mut framed) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match framer.next(&mut input) {
                Ok(Some(pdu)) => framed.push(pdu),
                Ok(None) => break,
                Err(error) => return (framed, Some(error)),
            }
        }
        let (missing, most) = (framer.missing(), limit as usize + MOST_BESIDES);
        assert!(missing > 0 && missing + input.len() <= most, "{missing}");
    }
    (framed, None)
}

fn stays_the_same(pdu: &Pdu, digests: Digests, limit: u32) {
    let bytes = written(pdu, digests);
    let (again, error) = cut(&bytes, bytes.len(), digests, limit);
    assert_eq!(
        (again.as_slice(), error),
        (&[Framed::Pdu(pdu.clone())][..], None)
    );
}
