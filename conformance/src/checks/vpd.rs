//! Vital product data pages of all devices (SPC-3 §7.6); those of block devices are in `vpd::block`.

pub(super) mod block;
pub(super) mod designators;

use bytes::Bytes;

use super::{inquiry, room};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::fields::Fields;
use crate::session::{Session, Task};
use crate::words;

checks! {
    "vpd.list.ascending", "SPC-3 §7.6.9", Must, Reads,
        "INQUIRY for VPD page 00h"
        => "page codes in ascending order, from 00h on", ascending;
    "vpd.list.mandatory", "SPC-3 §7.6.1", Must, Reads,
        "INQUIRY for VPD page 00h"
        => "00h and 83h among the pages", mandatory;
    "vpd.pages.code", "SPC-3 §7.6.1", Must, Reads,
        "INQUIRY for each page that page 00h lists"
        => "GOOD, and the page's own code in byte 1", own_code;
    "vpd.pages.length", "SPC-3 §7.6.1", Must, Reads,
        "INQUIRY for each page that page 00h lists"
        => "as many bytes as PAGE LENGTH says", page_length;
    "vpd.pages.peripheral", "SPC-3 §7.6.1", Must, Reads,
        "INQUIRY for the standard data and for each listed page"
        => "the same PERIPHERAL QUALIFIER and PERIPHERAL DEVICE TYPE", peripheral;
    "vpd.pages.unlisted", "SPC-3 §6.4.4", Must, Reads,
        "INQUIRY for a page that page 00h does not list"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", unlisted;
    "vpd.allocation", "SPC-3 §4.3.4.6", Must, Reads,
        "INQUIRY for page 83h with ALLOCATION LENGTH 6 and 0"
        => "so many bytes, PAGE LENGTH not adjusted to the cut", allocation;
    "vpd.serial.text", "SPC-3 §7.6.10", Must, Reads,
        "INQUIRY for page 80h, if it is listed"
        => "a PRODUCT SERIAL NUMBER of printable ASCII", serial;
    "vpd.extended.length", "SPC-3 §7.6.4", Must, Reads,
        "INQUIRY for page 86h, if it is listed"
        => "PAGE LENGTH 003Ch", extended;
}

async fn ascending(bench: &Bench) -> Verdict {
    let list = listed(&mut bench.session().await?).await?;
    ensure!(
        list.first() == Some(&0),
        "the list of pages does not begin with 00h: {}",
        words::codes(&list)
    );
    ensure!(
        list.is_sorted_by(|one, next| one < next),
        "the pages are not in ascending order: {}",
        words::codes(&list)
    );
    Ok(())
}

async fn mandatory(bench: &Bench) -> Verdict {
    let list = listed(&mut bench.session().await?).await?;
    for page in [0x00, 0x83] {
        ensure!(
            list.contains(&page),
            "page {page:02x}h is mandatory, and not among {}",
            words::codes(&list)
        );
    }
    Ok(())
}

async fn own_code(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for page in listed(&mut session).await? {
        let data = whole(&mut session, page).await?;
        let code = Fields::of("a VPD page", &data).byte(1)?;
        ensure!(
            code == page,
            "what comes for page {page:02x}h is page {code:02x}h"
        );
    }
    Ok(())
}

async fn page_length(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    for page in listed(&mut session).await? {
        let data = whole(&mut session, page).await?;
        let length = Fields::of("a VPD page", &data).two(2)?;
        let wanted = (usize::from(length) + 4).min(usize::from(ROOM));
        ensure!(
            data.len() == wanted,
            "PAGE LENGTH {length} of page {page:02x}h makes {wanted} bytes, and {} come",
            data.len()
        );
    }
    Ok(())
}

async fn peripheral(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let standard = inquiry::standard_data(&mut session).await?;
    let own = Fields::of("standard INQUIRY data", &standard).byte(0)?;
    for page in listed(&mut session).await? {
        let data = whole(&mut session, page).await?;
        let first = Fields::of("a VPD page", &data).byte(0)?;
        ensure!(
            first == own,
            "byte 0 is {own:#04x} in the standard data, and {first:#04x} in page {page:02x}h"
        );
    }
    Ok(())
}

async fn unlisted(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let list = listed(&mut session).await?;
    // Reserved codes first, in case that a list leaves vendor specific pages out.
    let Some(page) = (0x9f..=0xaf).find(|page| !list.contains(page)) else {
        skip!("pages 9Fh to AFh are all listed");
    };
    let reply = session.run(&vital(page, ROOM)).await?;
    reply.fails_with(&format!("INQUIRY for VPD page {page:02x}h"), 5, 0x24, 0)
}

async fn allocation(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let whole = whole(&mut session, 0x83).await?;
    for bytes in [6, 0] {
        let task = vital(0x83, bytes);
        room::is_cut(
            &mut session,
            "INQUIRY for VPD page 83h",
            task,
            bytes.into(),
            &whole,
        )
        .await?;
    }
    Ok(())
}

async fn serial(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = wanted(&mut session, 0x80).await?;
    let serial = data.get(4..).unwrap_or_default();
    ensure!(!serial.is_empty(), "PRODUCT SERIAL NUMBER has no bytes");
    ensure!(
        serial.iter().all(|byte| (0x20..0x7f).contains(byte)),
        "PRODUCT SERIAL NUMBER holds bytes that are no printable ASCII: {}",
        words::hex(serial)
    );
    Ok(())
}

async fn extended(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let data = wanted(&mut session, 0x86).await?;
    length_is(0x86, &data, &[0x3c])
}

/// A page that only some units have.
async fn wanted(session: &mut Session, page: u8) -> Result<Bytes, Finding> {
    if !listed(session).await?.contains(&page) {
        skip!("VPD page {page:02x}h is not listed");
    }
    whole(session, page).await
}

fn length_is(page: u8, data: &[u8], lawful: &[u16]) -> Verdict {
    let length = Fields::of("a VPD page", data).two(2)?;
    ensure!(
        lawful.contains(&length),
        "PAGE LENGTH of page {page:02x}h is {length:04x}h instead of {}",
        words::list(lawful.iter().map(|length| format!("{length:04x}h")))
    );
    Ok(())
}

/// INQUIRY for a page.
fn vital(page: u8, allocation: u16) -> Task {
    let [high, low] = allocation.to_be_bytes();
    Task::read(&[0x12, 1, page, high, low, 0], allocation.into())
}

/// A page as it is served.
async fn whole(session: &mut Session, page: u8) -> Result<Bytes, Finding> {
    let reply = session.run(&vital(page, ROOM)).await?;
    let what = format!("INQUIRY for VPD page {page:02x}h");
    Ok(reply.good(&what)?.data)
}

/// The codes that page 00h lists.
pub(super) async fn listed(session: &mut Session) -> Result<Vec<u8>, Finding> {
    let data = whole(session, 0).await?;
    let length = Fields::of("VPD page 00h", &data).two(2)?;
    Ok(Fields::of("VPD page 00h", &data)
        .part(4, length.into())?
        .to_vec())
}

/// Longer than any page that there is a rule about.
const ROOM: u16 = 4096;
