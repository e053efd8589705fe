//! INQUIRY and its standard data (SPC-3 §6.4; RFC 7143 refers to SPC-3).

use bytes::Bytes;

use super::{attention, capacity, room};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::fields::Fields;
use crate::session::{Session, Task};
use crate::words;

checks! {
    "inquiry.standard.length", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for 255 bytes of standard data"
        => "at least 36 bytes", length;
    "inquiry.standard.additional-length", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for 255 bytes of standard data"
        => "ADDITIONAL LENGTH is the number of bytes behind it", additional_length;
    "inquiry.standard.connected", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY to the unit that is judged"
        => "PERIPHERAL QUALIFIER 000b, and the type of a block device", connected;
    "inquiry.standard.version", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for the standard data"
        => "a VERSION that a standard has, from SPC on", version;
    "inquiry.standard.response-format", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for the standard data"
        => "RESPONSE DATA FORMAT 2", response_format;
    "inquiry.standard.vendor", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for the standard data"
        => "a T10 VENDOR IDENTIFICATION of printable ASCII, left-aligned", vendor;
    "inquiry.standard.product", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for the standard data"
        => "product identification and revision of printable ASCII, left-aligned", product;
    "inquiry.standard.task-model", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY for the standard data"
        => "either CMDQUE or BQUE: neither is obsolete, both is illegal", task_model;
    "inquiry.standard.port-groups", "SPC-3 §6.4.2", Must, Reads,
        "REPORT TARGET PORT GROUPS, if TPGS is not 00b"
        => "GOOD", port_groups;
    "inquiry.standard.third-party-copy", "SPC-3 §6.4.2", Must, Reads,
        "RECEIVE COPY RESULTS, if 3PC is one"
        => "anything but INVALID COMMAND OPERATION CODE", third_party_copy;
    "inquiry.standard.protect", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY and READ CAPACITY (16)"
        => "no PROT_EN where PROTECT is zero", protect;
    "inquiry.page-without-evpd", "SPC-3 §6.4.1", Must, Reads,
        "INQUIRY with EVPD zero and PAGE CODE 83h"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", page_without_evpd;
    "inquiry.allocation.zero", "SPC-3 §4.3.4.6", Must, Reads,
        "INQUIRY with ALLOCATION LENGTH 0"
        => "GOOD, and no data", allocation_zero;
    "inquiry.allocation.five", "SPC-3 §4.3.4.6", Must, Reads,
        "INQUIRY with ALLOCATION LENGTH 5"
        => "the first five bytes, ADDITIONAL LENGTH not adjusted to the cut", allocation_five;
    "inquiry.allocation.two-bytes", "SPC-3 §6.4.1", Must, Reads,
        "INQUIRY with ALLOCATION LENGTH 0200h"
        => "all standard data: the field has two bytes", allocation_two_bytes;
    "inquiry.allocation.residual", "RFC 7143 §11.4.5.2", Must, Reads,
        "INQUIRY with ALLOCATION LENGTH 36 and an Expected Data Transfer Length of 255"
        => "36 bytes, and the rest as underflow", allocation_residual;
    "inquiry.unsupported-unit", "SPC-3 §6.4.2", Must, Reads,
        "INQUIRY to a logical unit that is not in the list of REPORT LUNS"
        => "GOOD, with PERIPHERAL QUALIFIER 011b and type 1Fh, or 001b", unsupported_unit;
    "inquiry.attention", "SPC-3 §6.4.1", Must, Reads,
        "INQUIRY as the first command of a session, then TEST UNIT READY"
        => "the INQUIRY is carried out, and a Unit Attention stays pending", leaves_attention;
    "inquiry.reservation", "SPC-3 §5.6.1", Must, Writes,
        "INQUIRY while another session has reserved the unit for exclusive access"
        => "GOOD", reservation;
}

async fn length(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    ensure!(
        data.len() >= 36,
        "{} bytes of standard data, which has at least 36",
        data.len()
    );
    Ok(())
}

async fn additional_length(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let additional = Fields::of("standard INQUIRY data", &data).byte(4)?;
    let whole = usize::from(additional) + 5;
    ensure!(
        data.len() == whole.min(usize::from(ROOM)),
        "ADDITIONAL LENGTH is {additional}, which makes {whole} bytes, and {} come",
        data.len()
    );
    Ok(())
}

async fn connected(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let first = Fields::of("standard INQUIRY data", &data).byte(0)?;
    // Simplified (0Eh) and host managed zoned (14h) block devices are read and written like others.
    ensure!(
        [0x00, 0x0e, 0x14].contains(&first),
        "byte 0 is {first:#04x}, while the unit has blocks"
    );
    Ok(())
}

async fn version(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let version = Fields::of("standard INQUIRY data", &data).byte(2)?;
    // SPC, SPC-2, SPC-3, SPC-4, SPC-5; from SPC-6 on all have 0Dh.
    ensure!(
        matches!(version, 0x03..=0x07 | 0x0d),
        "VERSION is {version:#04x}, which is that of no SPC"
    );
    Ok(())
}

async fn response_format(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let format = Fields::of("standard INQUIRY data", &data).byte(3)? & 0x0f;
    ensure!(
        format == 2,
        "RESPONSE DATA FORMAT is {format}: only 2 is not obsolete or reserved"
    );
    Ok(())
}

async fn vendor(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let fields = Fields::of("standard INQUIRY data", &data);
    let vendor = fields.part(8, 8)?;
    left_aligned("T10 VENDOR IDENTIFICATION", vendor)?;
    ensure!(
        vendor != [b' '; 8],
        "T10 VENDOR IDENTIFICATION is eight spaces"
    );
    Ok(())
}

async fn product(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let fields = Fields::of("standard INQUIRY data", &data);
    left_aligned("PRODUCT IDENTIFICATION", fields.part(16, 16)?)?;
    left_aligned("PRODUCT REVISION LEVEL", fields.part(32, 4)?)
}

async fn task_model(bench: &Bench) -> Verdict {
    let data = standard_data(&mut bench.session().await?).await?;
    let fields = Fields::of("standard INQUIRY data", &data);
    let (basic, full) = (fields.byte(6)? & 0x80 != 0, fields.byte(7)? & 0x02 != 0);
    ensure!(
        basic != full,
        "BQUE is {} and CMDQUE is {}",
        u8::from(basic),
        u8::from(full)
    );
    Ok(())
}

async fn port_groups(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = standard_data(&mut session).await?;
    let groups = Fields::of("standard INQUIRY data", &data).byte(5)? >> 4 & 3;
    if groups == 0 {
        skip!("TPGS is 00b: no port groups are claimed");
    }
    let cdb = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let reply = session.run(&Task::read(&cdb, 256)).await?;
    reply.good(&format!("REPORT TARGET PORT GROUPS, TPGS being {groups}"))?;
    Ok(())
}

async fn third_party_copy(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = standard_data(&mut session).await?;
    if Fields::of("standard INQUIRY data", &data).byte(5)? & 0x08 == 0 {
        skip!("3PC is zero: third-party copies are not claimed");
    }
    // Operating parameters. SPC-4 lets a target support other third-party copies alone, all of which have this
    // operation code.
    let cdb = [0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    let reply = session.run(&Task::read(&cdb, 512)).await?;
    ensure!(
        !reply.is_unknown_opcode(),
        "3PC is one, and RECEIVE COPY RESULTS has an invalid operation code"
    );
    Ok(())
}

async fn protect(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = standard_data(&mut session).await?;
    let protect = Fields::of("standard INQUIRY data", &data).byte(5)? & 0x01;
    let capacity = capacity::sixteen(&mut session).await?;
    let enabled = Fields::of("READ CAPACITY (16) data", &capacity).byte(12)? & 0x01;
    ensure!(
        enabled <= protect,
        "PROTECT is zero, and PROT_EN of READ CAPACITY (16) is one"
    );
    Ok(())
}

async fn page_without_evpd(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let task = Task::read(&[0x12, 0, 0x83, 0, 255], 255);
    let reply = session.run(&task).await?;
    reply.fails_with("INQUIRY with EVPD zero and PAGE CODE 83h", 5, 0x24, 0)
}

async fn allocation_zero(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = standard_data(&mut session).await?;
    room::is_cut(&mut session, "INQUIRY", standard(0), 0, &whole).await
}

async fn allocation_five(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = standard_data(&mut session).await?;
    room::is_cut(&mut session, "INQUIRY", standard(5), 5, &whole).await
}

async fn allocation_two_bytes(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = standard_data(&mut session).await?;
    let reply = session.run(&standard(0x200)).await?;
    let long = reply.good("INQUIRY with ALLOCATION LENGTH 0200h")?.data;
    ensure!(
        long.starts_with(&whole),
        "{} bytes come for ALLOCATION LENGTH 00FFh, and {} other ones for 0200h",
        whole.len(),
        long.len()
    );
    Ok(())
}

async fn allocation_residual(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let task = Task::read(&[0x12, 0, 0, 0, 36], 255);
    let reply = session.run(&task).await?.good("INQUIRY")?;
    ensure!(
        reply.data.len() == 36,
        "{} bytes come for ALLOCATION LENGTH 36",
        reply.data.len()
    );
    room::underflow(&reply, 255)
}

async fn unsupported_unit(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    capacity::leave_for_no_unit(&mut session).await?;
    let reply = session.run(&standard(ROOM)).await?;
    let data = reply.good("INQUIRY to a unit that does not exist")?.data;
    let first = Fields::of("standard INQUIRY data", &data).byte(0)?;
    // 001b is for a unit that could be connected, whose type is then told.
    ensure!(
        first == 0x7f || first >> 5 == 1,
        "byte 0 is {first:#04x}: PERIPHERAL QUALIFIER {:03b}b, type {:02x}h",
        first >> 5,
        first & 0x1f
    );
    Ok(())
}

async fn leaves_attention(bench: &Bench) -> Verdict {
    attention::survives(bench, &standard(ROOM), "INQUIRY").await
}

async fn reservation(bench: &Bench) -> Verdict {
    let (mut holder, mut other) = (bench.session().await?, bench.session().await?);
    let registered = holder.run(&reserve_out(6, 0, 0, KEY)).await?;
    if registered.status != 0 {
        skip!("no key can be registered: {}", registered.outcome());
    }
    let reserved = holder.run(&reserve_out(1, 3, KEY, 0)).await?;
    let asked = other.run(&standard(96)).await;
    if reserved.status == 0 {
        holder.run(&reserve_out(2, 3, KEY, 0)).await?;
    }
    // Without its key the holder holds nothing, but there are targets that do not know.
    let released = holder.run(&reserve_out(6, 0, 0, 0)).await?;
    if reserved.status != 0 {
        skip!("the unit cannot be reserved: {}", reserved.outcome());
    }
    asked?.good("INQUIRY from beside the reservation")?;
    released.good("REGISTER AND IGNORE EXISTING KEY with no key")?;
    Ok(())
}

/// INQUIRY for standard data.
pub(super) fn standard(allocation: u16) -> Task {
    let [high, low] = allocation.to_be_bytes();
    Task::read(&[0x12, 0, 0, high, low, 0], allocation.into())
}

/// The standard data, as much as a one-byte allocation length gets.
pub(super) async fn standard_data(session: &mut Session) -> Result<Bytes, Finding> {
    let reply = session.run(&standard(ROOM)).await?;
    Ok(reply.good("INQUIRY")?.data)
}

/// ASCII as SPC-3 §4.4.1 wants it: printable, what is unused being spaces behind it.
fn left_aligned(name: &str, text: &[u8]) -> Verdict {
    ensure!(
        text.iter().all(|byte| (0x20..0x7f).contains(byte)),
        "{name} holds bytes that are no printable ASCII: {}",
        words::hex(text)
    );
    let blank = text.iter().all(|byte| *byte == b' ');
    ensure!(
        blank || text.first() != Some(&b' '),
        "{name} is not left-aligned: {}",
        words::quoted(&String::from_utf8_lossy(text))
    );
    Ok(())
}

/// PERSISTENT RESERVE OUT: action and type, then RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
fn reserve_out(action: u8, kind: u8, key: u64, action_key: u64) -> Task {
    let mut list = [key.to_be_bytes(), action_key.to_be_bytes()].concat();
    list.resize(24, 0);
    Task::write(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], list)
}

/// The reservation key of the suite.
const KEY: u64 = 0x7375_6974_6500_0001;
/// More than standard data has in all but the strangest cases, and what one byte of allocation length can say.
const ROOM: u16 = 255;
