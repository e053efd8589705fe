//! Texts longer than a PDU, and texts without end (RFC 7143 §6.1, §6.2).

use crate::{NAMES, admit, ask, failed, finished, flags, login, reply, request, text};

/// Keys may span PDUs (RFC 7143 §6.1); each piece is answered by an empty response (§6.2).
#[test]
fn a_long_request_is_put_together() {
    let whole = format!(
        "{NAMES}X-com.example.long={}\0MaxBurstLength=65536\0",
        "x".repeat(9000)
    );
    let mut login = login();
    let pieces: Vec<&str> = vec![&whole[..50], &whole[50..8000], &whole[8000..]];
    for piece in &pieces[..2] {
        let answer = reply(login.handle(&request(0x44, piece)));
        assert_eq!((flags(&answer), answer.data.len()), (0x04, 0));
    }
    ask(&mut login, &request(0x87, pieces[2]));
    let (pdu, _) = finished(admit(&mut login));
    let expected = "TargetPortalGroupTag=3\0X-com.example.long=NotUnderstood\0MaxBurstLength=65536\0\
        MaxRecvDataSegmentLength=262144\0";
    assert_eq!(text(&pdu), expected);
    assert_eq!(
        pdu.header.as_bytes()[24..28],
        [0, 0, 0, 3],
        "every response has its own StatSN"
    );
}

/// RFC 7143 §6.2, §11.13.7: C without T.
#[test]
fn a_long_response_is_sent_in_pieces() {
    let unknown: String = (0..600).map(|number| format!("X-{number}=1\0")).collect();
    let mut login = login();
    ask(&mut login, &request(0x87, &format!("{NAMES}{unknown}")));
    let first = reply(admit(&mut login));
    assert_eq!((flags(&first), first.data.len()), (0x44, 8192));
    let (last, _) = finished(login.handle(&request(0x87, "")));
    let whole = [&first.data[..], &last.data[..]].concat();
    let expected: String = (0..600)
        .map(|number| format!("X-{number}=NotUnderstood\0"))
        .collect();
    assert_eq!(
        std::str::from_utf8(&whole).expect("text"),
        format!("TargetPortalGroupTag=3\0{expected}MaxRecvDataSegmentLength=262144\0")
    );
}

/// RFC 7143 §6.2: an empty request fetches the rest.
#[test]
fn while_a_long_response_is_fetched_requests_are_empty() {
    let unknown: String = (0..600).map(|number| format!("X-{number}=1\0")).collect();
    let mut login = login();
    ask(&mut login, &request(0x87, &format!("{NAMES}{unknown}")));
    reply(admit(&mut login));
    assert_eq!(
        failed(login.handle(&request(0x87, "MaxBurstLength=65536\0"))),
        (0x02, 0x00)
    );
}

/// RFC 7143 §6.1: 64 KiB are enough; §6.2: "a reasonable [...] number of exchanges".
#[test]
fn endless_texts_and_logins_end() {
    let mut long = login();
    let piece = "x".repeat(8192);
    for _ in 0..8 {
        reply(long.handle(&request(0x44, &piece)));
    }
    assert_eq!(
        failed(long.handle(&request(0x44, "x"))),
        (0x02, 0x00),
        "more than 64 KiB"
    );

    let mut slow = login();
    ask(&mut slow, &request(0x04, NAMES));
    reply(admit(&mut slow));
    for _ in 1..128 {
        reply(slow.handle(&request(0x04, "")));
    }
    assert_eq!(
        failed(slow.handle(&request(0x04, ""))),
        (0x02, 0x00),
        "more than 128 requests"
    );
}
