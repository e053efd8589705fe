//! Header and data digests (RFC 7143 §11.2.3, §13.1).

use bytes::Bytes;
use iscsi_proto::wire::Pdu;
use iscsi_proto::wire::framer::Digests;

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::login::{FULL_FEATURE, OPERATIONAL};
use crate::session::{Session, Task};
use crate::stretch::{Stretch, same, writable};
use crate::wire::Heard;

use super::numbering::{conversation, ready};

checks! {
    "digest.list.order", "RFC 7143 §6.2.1", Must, Reads,
        "HeaderDigest and DataDigest as None, CRC32C, `None,CRC32C` and `CRC32C,None`"
        => "whoever takes either on its own takes the first of a list", list_order;
    "digest.list.unknown", "RFC 7143 §6.2.1", Must, Reads,
        "HeaderDigest=Y-example.org.sum,None"
        => "None: what is not understood is passed over", list_unknown;
    "digest.begin", "RFC 7143 §13.1", Must, Reads,
        "a login that agrees on both digests, and a ping"
        => "digests from the first PDU behind the login on, and none before", begin;
    "digest.header.pdus", "RFC 7143 §13.1", Must, Reads,
        "header digests; pings, commands with and without data, a task management request"
        => "every PDU of the target has the right header digest", header_pdus;
    "digest.header.r2t", "RFC 7143 §13.1", Must, Writes,
        "header digests; a WRITE whose data the target has to ask for"
        => "R2Ts have the right header digest, too", header_r2t;
    "digest.header.ahs", "RFC 7143 §11.2.3", Must, Reads,
        "header digests; a command with an additional header segment"
        => "an answer: the digest covers basic and additional header segments", header_ahs;
    "digest.data.pdus", "RFC 7143 §13.1", Must, Reads,
        "data digests; ping data, a READ of many PDUs, a command that fails"
        => "every data segment of the target has the right digest", data_pdus;
    "digest.data.padding", "RFC 7143 §11.2.3", Must, Reads,
        "data digests; INQUIRY with allocation lengths of 33 to 35 bytes"
        => "the digest covers the padding", padding;
    "digest.data.padding-of-ours", "RFC 7143 §11.2.3", Must, Reads,
        "data digests; pings with 5 to 7 bytes"
        => "they are echoed: the digest covers the padding", padding_of_ours;
    "digest.data.padding-of-any-kind", "RFC 7143 §13.1", Must, Reads,
        "data digests; a ping of 5 bytes whose padding is not zero"
        => "it is echoed: the digest covers the padding as it is", padding_of_any_kind;
    "digest.data.empty", "RFC 7143 §11.2.3", Must, Reads,
        "data digests; pings and commands without data"
        => "no digest where there is no data segment", empty;
    "digest.both", "RFC 7143 §13.1", Must, Reads,
        "both digests; pings, commands with and without data, a task management request"
        => "every PDU of the target has the right digests", both;
    "digest.write", "RFC 7143 §13.1", Must, Writes,
        "both digests; WRITEs with immediate data and with data that is asked for"
        => "GOOD, and the bytes come back", write;
}

/// A session with these digests; a target that prefers none is left alone.
pub(super) async fn digested(
    bench: &Bench,
    header: bool,
    data: bool,
    more: &[(&str, &str)],
) -> Result<Session, Finding> {
    let choice = |on: bool| if on { "CRC32C,None" } else { "None" };
    let mut keys = vec![
        ("HeaderDigest", choice(header)),
        ("DataDigest", choice(data)),
    ];
    keys.extend(more);
    let session = bench.session_with(&keys).await?;
    agreed(&session.wire.digests, header, data)?;
    Ok(session)
}

fn agreed(digests: &Digests, header: bool, data: bool) -> Verdict {
    if (header && !digests.header) || (data && !digests.data) {
        skip!("the target does not agree to CRC32C");
    }
    Ok(())
}

/// What a target makes of such a list for both digests; nothing if it refuses the login or the list.
async fn choice(bench: &Bench, list: &str) -> Result<Option<[String; 2]>, Finding> {
    let mut talk = bench.talk(bench.login()).await?;
    talk.authenticate().await?;
    let keys = Keys::of(&[("HeaderDigest", list), ("DataDigest", list)]);
    let answer = talk.ask(OPERATIONAL, Some(FULL_FEATURE), &keys).await?;
    let chosen = ["HeaderDigest", "DataDigest"].map(|key| answer.keys.get(key));
    let [Some(header), Some(data)] = chosen else {
        return Ok(None);
    };
    Ok((answer.status() == 0).then(|| [header.to_owned(), data.to_owned()]))
}

async fn list_order(bench: &Bench) -> Verdict {
    for alone in ["None", "CRC32C"] {
        let taken = choice(bench, alone).await?;
        if taken.is_none_or(|values| values.iter().any(|value| value != alone)) {
            skip!("the target does not take {alone} for both digests");
        }
    }
    for (list, first) in [("None,CRC32C", "None"), ("CRC32C,None", "CRC32C")] {
        let Some([header, data]) = choice(bench, list).await? else {
            violation!("HeaderDigest={list} and DataDigest={list} are refused");
        };
        ensure!(
            header == first && data == first,
            "HeaderDigest={list} is answered with {header}, DataDigest={list} with {data}"
        );
    }
    Ok(())
}

async fn list_unknown(bench: &Bench) -> Verdict {
    let alone = choice(bench, "None").await?;
    if alone.is_none_or(|values| values.iter().any(|value| value != "None")) {
        skip!("the target insists on digests");
    }
    match choice(bench, "Y-example.org.sum,None").await? {
        Some([header, data]) if header == "None" && data == "None" => Ok(()),
        Some([header, data]) => {
            violation!("`Y-example.org.sum,None` is answered with {header} and {data}")
        }
        None => violation!("`Y-example.org.sum,None` is refused"),
    }
}

async fn begin(bench: &Bench) -> Verdict {
    let keys = [
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
    ];
    let mut session = bench.log_in(&keys).await?;
    agreed(&session.wire.digests, true, true)?;
    echoed(&mut session, b"the first PDU with digests").await
}

/// A ping with this data has to be answered with the same.
async fn echoed(session: &mut Session, data: &'static [u8]) -> Verdict {
    let ping = session.ping();
    let data = Bytes::from_static(data);
    session.send(Pdu::new(ping, data.clone())).await;
    is_echo(session, &data).await
}

async fn is_echo(session: &mut Session, data: &Bytes) -> Verdict {
    match session.next().await {
        Heard::Pdu(pdu) if pdu.header.common().opcode == 0x20 => {
            same(&pdu.data, data, "the data of a ping")
        }
        other => violation!(
            "{other} where a ping of {} bytes is to be echoed",
            data.len()
        ),
    }
}

/// INQUIRY of a page without EVPD: INVALID FIELD IN CDB (SPC-4 §6.4.1), and sense data with it.
fn fails() -> Task {
    Task::read(&[0x12, 0, 0x83, 0, 96], 96)
}

async fn header_pdus(bench: &Bench) -> Verdict {
    let mut session = digested(bench, true, false, &[]).await?;
    conversation(bench, &mut session).await?;
    session.run(&fails()).await?;
    Ok(())
}

async fn header_r2t(bench: &Bench) -> Verdict {
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "4096"),
    ];
    let mut session = digested(bench, true, false, &keys).await?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 16384)?;
    let task = stretch.write(&stretch.pattern(bench));
    session.run(&task).await?.good("WRITE (10)")?;
    Ok(())
}

async fn header_ahs(bench: &Bench) -> Verdict {
    let mut session = digested(bench, true, false, &[]).await?;
    // A CDB of 32 bytes, READ (32) of no blocks; whether the unit knows it is another matter.
    let mut task = Task::bare(&[0x7f, 0, 0, 0, 0, 0, 0, 24, 0, 9]);
    task.cdb[15] = 0;
    let command = session.command(&task);
    let mut segment = vec![0, 17, 1, 0];
    segment.resize(20, 0);
    let pdu = Pdu {
        ahs: segment.into(),
        ..Pdu::bare(command)
    };
    session.send(pdu).await;
    match session.next().await {
        Heard::Pdu(pdu) if pdu.header.common().initiator_task_tag == command.initiator_task_tag => {
            Ok(())
        }
        other => violation!("{other} to a command with an additional header segment"),
    }
}

async fn data_pdus(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let mut session = digested(bench, false, true, &keys).await?;
    conversation(bench, &mut session).await?;
    session.run(&fails()).await?;
    Ok(())
}

async fn padding(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    for bytes in 33..=35u8 {
        let command = session.command(&Task::read(&[0x12, 0, 0, 0, bytes], u32::from(bytes)));
        session.send(Pdu::bare(command)).await;
        match session.next().await {
            Heard::Pdu(pdu) if pdu.data.len() == usize::from(bytes) => {}
            other => violation!("{other} where {bytes} bytes of INQUIRY data are due"),
        }
        session.said_before_ping().await?;
    }
    Ok(())
}

async fn padding_of_ours(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    for data in [&b"12345"[..], b"123456", b"1234567"] {
        echoed(&mut session, data).await?;
    }
    Ok(())
}

async fn padding_of_any_kind(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    let ping = session.ping();
    let data = Bytes::from_static(b"stuff");
    // Behind the header: five bytes, three of padding, then the digest of all eight.
    let mut bytes = session.wire.encode(&Pdu::new(ping, data.clone()));
    bytes.truncate(48);
    bytes.extend_from_slice(STUFFED);
    bytes.extend_from_slice(&crc32c::crc32c(STUFFED).to_le_bytes());
    session
        .wire
        .send_bytes("a NOP-Out of 5 bytes with the padding ff ff ff", &bytes)
        .await;
    is_echo(&mut session, &data).await
}

async fn empty(bench: &Bench) -> Verdict {
    let mut session = digested(bench, false, true, &[]).await?;
    for _ in 0..2 {
        echoed(&mut session, b"").await?;
        let command = session.command(&ready());
        session.send(Pdu::bare(command)).await;
        match session.next().await {
            Heard::Pdu(pdu)
                if pdu.header.common().initiator_task_tag == command.initiator_task_tag => {}
            other => violation!("{other} where the status of TEST UNIT READY is due"),
        }
    }
    Ok(())
}

async fn both(bench: &Bench) -> Verdict {
    let mut session = digested(bench, true, true, &[]).await?;
    conversation(bench, &mut session).await?;
    session.run(&fails()).await?;
    Ok(())
}

async fn write(bench: &Bench) -> Verdict {
    for immediate in ["Yes", "No"] {
        let keys = [
            ("ImmediateData", immediate),
            ("MaxBurstLength", "4096"),
            ("FirstBurstLength", "4096"),
        ];
        let mut session = digested(bench, true, true, &keys).await?;
        writable(&mut session).await?;
        for bytes in [4096, 16384] {
            let stretch = Stretch::of(bench, bytes)?;
            let data = stretch.pattern(bench);
            let what = format!("a WRITE with digests and ImmediateData={immediate}");
            session.run(&stretch.write(&data)).await?.good(&what)?;
            stretch.holds(&mut session, &data, &what).await?;
        }
    }
    Ok(())
}

/// Five bytes of ping data and three of padding.
const STUFFED: &[u8; 8] = b"stuff\xff\xff\xff";
