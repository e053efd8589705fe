//! Data-In PDUs: their order, their size, their flags (RFC 7143 §11.7).

use bytes::{Bytes, BytesMut};
use iscsi_proto::wire::bhs::{DataIn, FINAL, RESERVED_TAG, STATUS};
use iscsi_proto::wire::{Header, Pdu};

use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip, violation};
use crate::keys::Keys;
use crate::session::{CHECK_CONDITION, Reply, Session, Task};
use crate::stretch::{Stretch, same, writable};
use crate::wire::Heard;

use super::numbering::ready;

checks! {
    "data-in.datasn", "RFC 7143 §11.7.5", Must, Reads,
        "a READ of many PDUs"
        => "DataSN goes up by one from 0", data_sn;
    "data-in.datasn.per-command", "RFC 7143 §4.2.2.4", Must, Reads,
        "several READs at once"
        => "DataSN begins at 0 for each of them, and each gets its own data in order", at_once;
    "data-in.offset", "RFC 7143 §11.7.6", Must, Reads,
        "a READ of several sequences, DataPDUInOrder and DataSequenceInOrder being Yes"
        => "Buffer Offset goes up by the length of each PDU, over the whole transfer", offset;
    "data-in.segment.512", "RFC 7143 §13.12", Must, Reads,
        "MaxRecvDataSegmentLength=512, and a READ"
        => "no PDU with more than 512 bytes", segment_512;
    "data-in.segment.odd", "RFC 7143 §13.12", Must, Reads,
        "MaxRecvDataSegmentLength=1022, and a READ"
        => "no PDU with more than 1022 bytes", segment_odd;
    "data-in.segment.default", "RFC 7143 §13.12", Must, Reads,
        "a login without MaxRecvDataSegmentLength, and a READ"
        => "no PDU with more than 8192 bytes", segment_default;
    "data-in.segment.words", "RFC 7143 §11.7.7", Should, Reads,
        "MaxRecvDataSegmentLength=1022, and a READ"
        => "data segments of whole words of four bytes, but at the end of a sequence", segment_words;
    "data-in.burst", "RFC 7143 §11.7.1", Must, Reads,
        "MaxBurstLength=4096, MaxRecvDataSegmentLength=1024, and a READ of many bursts"
        => "at most 4096 bytes from one F bit to the next", burst;
    "data-in.final", "RFC 7143 §11.7.1", Must, Reads,
        "a READ of many PDUs that fit one sequence"
        => "the last PDU of the data has the F bit", last_is_final;
    "data-in.status.final", "RFC 7143 §11.7.3", Must, Reads,
        "READs in one PDU and in many"
        => "a PDU with the S bit has the F bit, too, and no PDU comes behind it", status_is_final;
    "data-in.status.error", "RFC 7143 §11.7.3", Must, Reads,
        "a READ behind the end of the unit"
        => "the status of an error and its sense come in a SCSI Response", error_apart;
    "data-in.tags", "RFC 7143 §11.7.4", Must, Reads,
        "a READ of several PDUs"
        => "without the A bit no Target Transfer Tag and no LUN", tags;
    "data-in.acknowledge", "RFC 7143 §11.7.2", Must, Reads,
        "ErrorRecoveryLevel=0, and a READ of several bursts"
        => "no PDU with the A bit", acknowledge;
    "data-in.reserved", "RFC 7143 §11", Must, Reads,
        "a READ of several PDUs"
        => "the reserved bits of byte 1, byte 2 and TotalAHSLength are 0", reserved;
    "data-in.exp-datasn", "RFC 7143 §11.4.8", Must, Reads,
        "commands without data, with data, and with an error"
        => "ExpDataSN of a SCSI Response is the number of Data-In PDUs", exp_data_sn;
    "data-in.none", "RFC 7143 §11.7", Must, Reads,
        "a READ of no blocks"
        => "GOOD without a byte of data", none;
    "data-in.padding", "RFC 7143 §11.1", Must, Reads,
        "INQUIRY with allocation lengths of 33 to 35 bytes"
        => "as many bytes, padded to whole words", padding;
    "data-in.any-cut", "RFC 7143 §11.7", Must, Reads,
        "the same READ with several MaxRecvDataSegmentLength and MaxBurstLength"
        => "the same bytes each time", any_cut;
    "data-in.written", "RFC 7143 §4.2.5.2", Must, Writes,
        "a WRITE, then a READ in small PDUs and bursts"
        => "the bytes that were written", written;
    "data-in.edges", "RFC 7143 §4.2.5.2", Must, Reads,
        "READs of the first block and of the last one"
        => "a block of data each", edges;
}

/// A session with these keys, and what a READ of this many bytes brings in it.
async fn read(
    bench: &Bench,
    keys: &[(&str, &str)],
    bytes: u32,
) -> Result<(Session, Reply), Finding> {
    let mut session = bench.session_with(keys).await?;
    let task = Stretch::of(bench, bytes)?.read();
    let reply = session.run(&task).await?.good("READ (10)")?;
    Ok((session, reply))
}

/// The Data-In PDUs of a reply.
fn data_ins(reply: &Reply) -> impl Iterator<Item = (&DataIn, &Pdu)> {
    reply.pdus.iter().filter_map(|pdu| match &pdu.header {
        Header::DataIn(header) => Some((header, pdu)),
        _ => None,
    })
}

/// The target's part of a key has to be what was asked for, lest another rule is judged.
fn settled(session: &Session, key: &str, most: u32) -> Verdict {
    match session.answers.number(key) {
        Some(number) if number <= most => Ok(()),
        Some(number) => skip!("{key}={most} is answered with {number}"),
        None => skip!("{key}={most} is not answered with a number"),
    }
}

async fn data_sn(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "512")];
    let (_session, reply) = read(bench, &keys, 16384).await?;
    for ((header, _), expected) in data_ins(&reply).zip(0u32..) {
        ensure!(
            header.data_sn.get() == expected,
            "Data-In PDU number {expected} of the READ has DataSN {}",
            header.data_sn.get()
        );
    }
    Ok(())
}

/// What came of one of several READs.
struct Part {
    tag: u32,
    bytes: u32,
    data: BytesMut,
    pdus: u32,
    over: bool,
}

impl Part {
    fn take(&mut self, header: &DataIn, data: &Bytes) -> Verdict {
        ensure!(
            header.data_sn.get() == self.pdus,
            "DataSN {} in Data-In PDU number {} of task {:08x}",
            header.data_sn.get(),
            self.pdus,
            self.tag
        );
        ensure!(
            usize::try_from(header.buffer_offset.get()) == Ok(self.data.len()),
            "Data-In at offset {} where {} is next for task {:08x}",
            header.buffer_offset.get(),
            self.data.len(),
            self.tag
        );
        self.data.extend_from_slice(data);
        self.pdus += 1;
        self.over = header.flags & STATUS != 0;
        Ok(())
    }
}

async fn at_once(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let mut session = bench.session_with(&keys).await?;
    let room = session
        .max_cmd_sn
        .wrapping_sub(session.cmd_sn)
        .wrapping_add(1);
    let mut parts = Vec::new();
    for bytes in [4096, 16384, 8192, 32768]
        .into_iter()
        .take(usize::try_from(room).unwrap_or(1))
    {
        let stretch = Stretch::of(bench, bytes)?;
        let command = session.command(&stretch.read());
        session.send(Pdu::bare(command)).await;
        parts.push(Part {
            tag: command.initiator_task_tag.get(),
            bytes: stretch.bytes(),
            data: BytesMut::new(),
            pdus: 0,
            over: false,
        });
    }
    while parts.iter().any(|part| !part.over) {
        let pdu = session.receive().await?;
        let tag = pdu.header.common().initiator_task_tag.get();
        let Some(part) = parts.iter_mut().find(|part| part.tag == tag && !part.over) else {
            violation!(
                "{} about task {tag:08x}, which is not under way",
                Heard::Pdu(pdu)
            );
        };
        match &pdu.header {
            Header::DataIn(header) => part.take(header, &pdu.data)?,
            Header::ScsiResponse(header) if header.status == 0 => part.over = true,
            Header::ScsiResponse(header) => skip!("a READ ends with status {:#04x}", header.status),
            _ => violation!("{} while READs are under way", Heard::Pdu(pdu)),
        }
    }
    let longest = parts.iter().map(|part| part.data.clone().freeze());
    let longest = longest.max_by_key(Bytes::len).unwrap_or_default();
    for part in &parts {
        ensure!(
            u32::try_from(part.data.len()) == Ok(part.bytes),
            "{} bytes come for a READ of {}",
            part.data.len(),
            part.bytes
        );
        let head = longest.get(..part.data.len()).unwrap_or_default();
        same(&part.data, head, "one of several READs of the same blocks")?;
    }
    Ok(())
}

async fn offset(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxRecvDataSegmentLength", "1024"),
        ("MaxBurstLength", "4096"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
    ];
    let mut session = bench.session_with(&keys).await?;
    let command = session.command(&Stretch::of(bench, 32768)?.read());
    session.send(Pdu::bare(command)).await;
    let mut next = 0;
    for number in 0..MOST_PDUS {
        let pdu = session.receive().await?;
        let Header::DataIn(header) = &pdu.header else {
            return Ok(());
        };
        ensure!(
            header.buffer_offset.get() == next,
            "Data-In PDU number {number} has Buffer Offset {}, and {next} bytes are before it",
            header.buffer_offset.get()
        );
        next += u32::try_from(pdu.data.len()).unwrap_or(0);
        if header.flags & STATUS != 0 {
            return Ok(());
        }
    }
    violation!("no status after {MOST_PDUS} PDUs")
}

/// No data segment of a READ may be longer than what the suite declared.
async fn segment(bench: &Bench, keys: &[(&str, &str)], most: usize) -> Verdict {
    let session = bench.session_with(keys).await?;
    segments(bench, session, most).await
}

async fn segments(bench: &Bench, mut session: Session, most: usize) -> Verdict {
    // Longer segments are to be seen, not refused by the wire.
    session.wire.set_max_data_segment(1 << 20);
    let task = Stretch::of(bench, 65536)?.read();
    let reply = session.run(&task).await?.good("READ (10)")?;
    for ((_, pdu), number) in data_ins(&reply).zip(0u32..) {
        ensure!(
            pdu.data.len() <= most,
            "Data-In PDU number {number} has {} bytes of data; MaxRecvDataSegmentLength is {most}",
            pdu.data.len()
        );
    }
    Ok(())
}

async fn segment_512(bench: &Bench) -> Verdict {
    segment(bench, &[("MaxRecvDataSegmentLength", "512")], 512).await
}

async fn segment_odd(bench: &Bench) -> Verdict {
    segment(bench, &[("MaxRecvDataSegmentLength", "1022")], 1022).await
}

async fn segment_default(bench: &Bench) -> Verdict {
    let mut session = bench.log_in_with(bench.login(), Keys::default()).await?;
    session.take_attentions().await?;
    segments(bench, session, 8192).await
}

async fn segment_words(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1022")];
    let (_session, reply) = read(bench, &keys, 16384).await?;
    for (header, pdu) in data_ins(&reply) {
        ensure!(
            pdu.data.len().is_multiple_of(4) || header.flags & FINAL != 0,
            "Data-In PDU number {} has {} bytes of data and no F bit",
            header.data_sn.get(),
            pdu.data.len()
        );
    }
    Ok(())
}

async fn burst(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxRecvDataSegmentLength", "1024"),
        ("MaxBurstLength", "4096"),
        ("FirstBurstLength", "4096"),
    ];
    let (session, reply) = read(bench, &keys, 65536).await?;
    settled(&session, "MaxBurstLength", 4096)?;
    let mut sequence = 0;
    for (header, pdu) in data_ins(&reply) {
        sequence += pdu.data.len();
        ensure!(
            sequence <= 4096,
            "{sequence} bytes up to Data-In PDU number {} without an F bit; MaxBurstLength is 4096",
            header.data_sn.get()
        );
        if header.flags & FINAL != 0 {
            sequence = 0;
        }
    }
    Ok(())
}

async fn last_is_final(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let (_session, reply) = read(bench, &keys, 16384).await?;
    let count = data_ins(&reply).count();
    let Some((last, _)) = data_ins(&reply).last() else {
        violation!("a READ brings no Data-In PDU");
    };
    ensure!(
        last.flags & FINAL != 0,
        "the last of {count} Data-In PDUs has no F bit: byte 1 is {:#04x}",
        last.flags
    );
    Ok(())
}

async fn status_is_final(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "4096")];
    for bytes in [4096, 32768] {
        let (mut session, reply) = read(bench, &keys, bytes).await?;
        for (header, _) in data_ins(&reply) {
            ensure!(
                header.flags & STATUS == 0 || header.flags & FINAL != 0,
                "Data-In PDU number {} has the S bit and no F bit: byte 1 is {:#04x}",
                header.data_sn.get(),
                header.flags
            );
        }
        if let Some(pdu) = session.said_before_ping().await?.into_iter().next() {
            violation!("{} behind the status of a READ", Heard::Pdu(pdu));
        }
    }
    Ok(())
}

async fn error_apart(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let behind = Stretch::behind_the_end(bench)?;
    let reply = session.run(&behind.read()).await?;
    ensure!(reply.status != 0, "a READ behind the end of the unit: GOOD");
    for (header, _) in data_ins(&reply) {
        ensure!(
            header.flags & STATUS == 0,
            "status {:#04x} comes in a Data-In PDU, not in a SCSI Response",
            header.status
        );
    }
    ensure!(
        reply.status != CHECK_CONDITION || reply.sense.is_some(),
        "CHECK CONDITION without sense data"
    );
    Ok(())
}

async fn tags(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let (_session, reply) = read(bench, &keys, 16384).await?;
    for (header, _) in data_ins(&reply) {
        let (tag, lun) = (header.target_transfer_tag.get(), header.lun.get());
        if header.flags & ACKNOWLEDGE != 0 {
            continue;
        }
        // Reserved fields are 0; the tag has a value of its own that says that it is not there.
        ensure!(
            tag == RESERVED_TAG || tag == 0,
            "a Data-In PDU without the A bit has Target Transfer Tag {tag:08x}"
        );
        ensure!(
            lun == 0,
            "a Data-In PDU without the A bit has {lun:016x} in its reserved LUN field"
        );
    }
    Ok(())
}

async fn acknowledge(bench: &Bench) -> Verdict {
    let keys = [
        ("ErrorRecoveryLevel", "0"),
        ("MaxRecvDataSegmentLength", "1024"),
        ("MaxBurstLength", "4096"),
        ("FirstBurstLength", "4096"),
    ];
    let (_session, reply) = read(bench, &keys, 32768).await?;
    for (header, _) in data_ins(&reply) {
        ensure!(
            header.flags & ACKNOWLEDGE == 0,
            "Data-In PDU number {} has the A bit at ErrorRecoveryLevel 0: byte 1 is {:#04x}",
            header.data_sn.get(),
            header.flags
        );
    }
    Ok(())
}

async fn reserved(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let (_session, reply) = read(bench, &keys, 8192).await?;
    for (header, pdu) in data_ins(&reply) {
        ensure!(
            header.flags & 0x38 == 0 && header.reserved_2 == 0,
            "bytes 1 and 2 of a Data-In PDU are {:02x} {:02x}: reserved bits are set",
            header.flags,
            header.reserved_2
        );
        ensure!(
            pdu.ahs.is_empty(),
            "a Data-In PDU has {} bytes of additional header segments",
            pdu.ahs.len()
        );
    }
    Ok(())
}

async fn exp_data_sn(bench: &Bench) -> Verdict {
    let keys = [("MaxRecvDataSegmentLength", "1024")];
    let mut session = bench.session_with(&keys).await?;
    // More room than the block that is read: some targets send the status apart when there is a residual.
    let mut roomy = Stretch::of(bench, bench.facts.block_bytes)?.read();
    roomy.flow = crate::session::Flow::In(65536);
    let long = Stretch::of(bench, 16384)?.read();
    // INQUIRY of a page without EVPD: INVALID FIELD IN CDB (SPC-4 §6.4.1).
    let fails = Task::read(&[0x12, 0, 0x83, 0, 96], 96);
    for (what, task) in [
        ("TEST UNIT READY", ready()),
        ("a READ", long),
        ("a READ with more room than data", roomy),
        ("a command that fails", fails),
    ] {
        let reply = session.run(&task).await?;
        let count = data_ins(&reply).count();
        if let Some(Header::ScsiResponse(response)) = reply.pdus.last().map(|pdu| pdu.header) {
            ensure!(
                usize::try_from(response.exp_data_sn.get()) == Ok(count),
                "{what}: ExpDataSN is {}, after {count} Data-In PDUs",
                response.exp_data_sn.get()
            );
        }
    }
    Ok(())
}

async fn none(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let task = Stretch::of(bench, 0)?.read();
    let reply = session.run(&task).await?.good("a READ of no blocks")?;
    ensure!(
        reply.data.is_empty(),
        "a READ of no blocks brings {} bytes",
        reply.data.len()
    );
    Ok(())
}

async fn padding(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for bytes in 33..=35u8 {
        let task = Task::read(&[0x12, 0, 0, 0, bytes], u32::from(bytes));
        let command = session.command(&task);
        session.send(Pdu::bare(command)).await;
        // Where padding is missing, the next PDU is taken for it.
        let ping = session.ping();
        session.send(Pdu::bare(ping)).await;
        let (mut is_answered, mut is_over) = (false, false);
        while !(is_answered && is_over) {
            let heard = session.next().await;
            match &heard {
                Heard::Pdu(pdu) => match &pdu.header {
                    Header::DataIn(header) => {
                        ensure!(
                            pdu.data.len() == usize::from(bytes),
                            "{} bytes of INQUIRY data for an allocation length of {bytes}",
                            pdu.data.len()
                        );
                        is_over |= header.flags & STATUS != 0;
                        continue;
                    }
                    Header::ScsiResponse(_) if !is_over => is_over = true,
                    Header::NopIn(_) if !is_answered => is_answered = true,
                    _ => violation!("{heard} {UNPADDED} {bytes} bytes"),
                },
                _ => violation!("{heard} {UNPADDED} {bytes} bytes"),
            }
        }
    }
    Ok(())
}

/// True if all bytes are the same, as on a disk that nobody wrote to.
fn is_uniform(bytes: &[u8]) -> bool {
    bytes.windows(2).all(|pair| pair.first() == pair.last())
}

async fn any_cut(bench: &Bench) -> Verdict {
    let cuts = [
        ("262144", "1048576"),
        ("512", "262144"),
        ("1022", "4096"),
        ("65536", "1024"),
    ];
    let mut first = None;
    for (segment, burst) in cuts {
        let keys = [
            ("MaxRecvDataSegmentLength", segment),
            ("MaxBurstLength", burst),
            ("FirstBurstLength", "512"),
        ];
        let (_session, reply) = read(bench, &keys, 32768).await?;
        if first.is_none() && is_uniform(&reply.data) {
            skip!(
                "all bytes that are there are the same: those of one offset could stand at any other"
            );
        }
        let first = first.get_or_insert_with(|| reply.data.clone());
        let what = format!("MaxRecvDataSegmentLength={segment} and MaxBurstLength={burst}");
        same(&reply.data, first, &what)?;
    }
    Ok(())
}

async fn written(bench: &Bench) -> Verdict {
    let keys = [
        ("MaxRecvDataSegmentLength", "1024"),
        ("MaxBurstLength", "4096"),
        ("FirstBurstLength", "4096"),
    ];
    let mut session = bench.session_with(&keys).await?;
    writable(&mut session).await?;
    let stretch = Stretch::of(bench, 32768)?;
    let data = stretch.pattern(bench);
    let write = stretch.write(&data);
    session.run(&write).await?.good("WRITE (10)")?;
    stretch
        .holds(&mut session, &data, "a WRITE and a READ")
        .await
}

async fn edges(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for stretch in [Stretch::first(bench), Stretch::last(bench)?] {
        let reply = session.run(&stretch.read()).await?.good("READ (10)")?;
        ensure!(
            u32::try_from(reply.data.len()) == Ok(stretch.bytes()),
            "{} bytes come for a READ of {}",
            reply.data.len(),
            stretch.bytes()
        );
    }
    Ok(())
}

/// The A bit (RFC 7143 §11.7.2).
const ACKNOWLEDGE: u8 = 0x40;
/// What is the matter when PDUs are not where they should be.
const UNPADDED: &str = "around INQUIRY data that has to be padded to whole words:";
/// The most PDUs of a READ.
const MOST_PDUS: usize = 1024;
