//! What the suite finds out about its subject before it judges.

use std::fmt;

use iscsi_proto::wire::{Header, Pdu};

use crate::bench::{Bench, usual};
use crate::chap::{Misfit, misfit};
use crate::check::{Finding, skip};
use crate::keys::Keys;
use crate::login::Talk;
use crate::run::printable;
use crate::session::{Reply, Session, Task};
use crate::stretch::is_write_protected;
use crate::subject::Subject;
use crate::wire::{CannotReach, Wire};

/// What is known of a logical unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// How many blocks there are.
    pub blocks: u64,
    /// The unit serial number (VPD page 80h), without spaces around it; empty if there is none.
    pub serial: String,
    /// Vendor, product and revision of the standard INQUIRY data.
    pub product: String,
    /// Whether it is write protected.
    pub read_only: bool,
}

impl Facts {
    /// That the unit has at least 8 MiB: the checks that move data have no place to do it on a smaller one.
    pub(crate) fn has_room(&self) -> Result<(), Finding> {
        let (blocks, block_bytes) = (self.blocks, self.block_bytes);
        if blocks.saturating_mul(block_bytes.into()) < SMALLEST_BYTES {
            skip!("the unit has {blocks} blocks of {block_bytes} bytes: less than 8 MiB");
        }
        Ok(())
    }
}

/// The smallest unit that data can be moved on.
const SMALLEST_BYTES: u64 = 8 << 20;

/// Why a subject cannot be judged.
#[derive(Debug)]
pub enum Unusable {
    /// Nobody takes the connection.
    NotReached(CannotReach),
    /// The login is refused with this status (RFC 7143 §11.13.5).
    Refused(u16),
    /// The login is redirected to another portal.
    Moved(String),
    /// The login does not come to an end; what happened instead.
    NoLogin(String),
    /// The target proves itself, but with another secret than it was expected to have.
    OtherSecret,
    /// The target proves itself with the secret that was expected, but under this name.
    OtherName(String),
    /// There is no such unit; these are there.
    NoUnit(Vec<u16>),
    /// The unit is of this peripheral device type, not a disk; these units are there.
    NoDisk(u8, Vec<u16>),
    /// The unit does not say what it is, or is not ready; what happened instead.
    NotReady(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(cannot) => cannot.fmt(f),
            Self::Refused(status) => write!(
                f,
                "the target refuses the login with status {status:#06x}: {}",
                status_name(*status)
            ),
            Self::Moved(address) => write!(f, "the target has moved to {address}"),
            Self::NoLogin(why) => write!(f, "no login comes about: {why}"),
            Self::OtherSecret => f.write_str(
                "the secret that the target is to prove does not fit: its CHAP_R is made with another",
            ),
            Self::OtherName(name) => write!(
                f,
                "the name that the target is to prove does not fit: its CHAP_N is {name}"
            ),
            Self::NoUnit(others) => {
                write!(f, "the target has no such logical unit{}", listed(others))
            }
            Self::NoDisk(device, others) => write!(
                f,
                "the logical unit is of device type {device:#04x}, not a disk{}",
                listed(others)
            ),
            Self::NotReady(why) => write!(f, "the logical unit cannot be used: {why}"),
        }
    }
}

impl std::error::Error for Unusable {}

/// What a status of a Login Response means (RFC 7143 §11.13.5).
fn status_name(status: u16) -> &'static str {
    match status {
        0x0101 => "moved temporarily",
        0x0102 => "moved for good",
        0x0200 => "the initiator is to blame",
        0x0201 => "authentication failure",
        0x0202 => "this initiator may not use this target",
        0x0203 => "there is no such target",
        0x0204 => "the target was removed",
        0x0205 => "version not supported",
        0x0206 => "too many connections",
        0x0207 => "missing parameter",
        0x0208 => "cannot include in session",
        0x0209 => "session type not supported",
        0x020a => "session does not exist",
        0x020b => "invalid during login",
        0x0300 => "target error",
        0x0301 => "service unavailable",
        0x0302 => "out of resources",
        _ => "an unknown status",
    }
}

fn listed(units: &[u16]) -> String {
    let numbers: Vec<String> = units.iter().map(u16::to_string).collect();
    match numbers.as_slice() {
        [] => String::new(),
        [one] => format!("; it has LUN {one}"),
        many => format!("; it has LUNs {}", many.join(", ")),
    }
}

/// Logs in to the subject as an ordinary initiator would and asks what its unit is.
pub async fn probe(subject: &Subject) -> Result<Facts, Unusable> {
    let bench = Bench::new(subject.clone(), Facts::default());
    let mut session = enter(&bench).await?;
    match misfit(&bench).await {
        None => {}
        Some(Misfit::Secret) => return Err(Unusable::OtherSecret),
        Some(Misfit::Name(name)) => return Err(Unusable::OtherName(printable(&name))),
    }
    recognise(&mut session, subject.lun).await?;
    look(&mut session)
        .await
        .map_err(|finding| Unusable::NotReady(reason(finding)))
}

/// So many times the patience is how long each answer of the first login may take.
const FIRST_PATIENCES: u32 = 3;
/// So many bytes are shown of what is no PDU.
const MOST_SHOWN: usize = 40;

async fn enter(bench: &Bench) -> Result<Session, Unusable> {
    let subject = &bench.subject;
    // By itself, to tell a portal that is not there from a login that goes wrong.
    let mut wire = Wire::connect(&subject.address, subject.patience, &bench.transcript)
        .await
        .map_err(Unusable::NotReached)?;
    // The first login may have to wait for what a target fetches only then.
    wire.patience = subject.patience * FIRST_PATIENCES;
    let mut talk = Talk::new(wire, bench.login(), subject);
    let authenticated = talk.authenticate().await;
    let beginning = beginning(talk.wire.untaken());
    let login = match authenticated {
        Ok(()) => talk.finish(usual(&[])).await,
        Err(finding) => Err(finding),
    };
    let finding = match login {
        Ok(mut session) => {
            session.wire.patience = subject.patience;
            return Ok(session);
        }
        Err(finding) => finding,
    };
    let last = bench.transcript.last_received();
    let Some(Pdu {
        header: Header::LoginResponse(answer),
        data,
        ..
    }) = last
    else {
        return Err(Unusable::NoLogin(reason(finding) + &beginning));
    };
    let status = u16::from_be_bytes([answer.status_class, answer.status_detail]);
    let moved = Keys::parse(&data).unwrap_or_default();
    Err(match (answer.status_class, moved.get("TargetAddress")) {
        (0, _) => Unusable::NoLogin(reason(finding)),
        (1, Some(address)) if address != subject.address => Unusable::Moved(printable(address)),
        _ => Unusable::Refused(status),
    })
}

/// What came in place of a PDU, as the end of a sentence: it may tell which service listens there.
fn beginning(came: &[u8]) -> String {
    match came.get(..MOST_SHOWN).unwrap_or(came) {
        [] => String::new(),
        first => format!("; what came begins with \"{}\"", first.escape_ascii()),
    }
}

/// Finds out whether the unit is there and a disk. Neither INQUIRY nor REPORT LUNS meets a Unit Attention.
async fn recognise(session: &mut Session, lun: u16) -> Result<(), Unusable> {
    let not_ready = |finding| Unusable::NotReady(reason(finding));
    let inquiry = session.run(&Task::read(&[0x12, 0, 0, 0, 36], 36)).await;
    let inquiry = inquiry.map_err(not_ready)?;
    // Peripheral qualifier and device type (SPC-4 §6.4.2): 000b and 00h are a disk that is there.
    let first = inquiry.data.first().copied();
    let device = match (inquiry.status, first) {
        (0, Some(0)) => return Ok(()),
        (0, Some(first)) => Some(first).filter(|first| first >> 5 == 0),
        _ => None,
    };
    let mut others = units(session).await.map_err(not_ready)?;
    others.retain(|other| *other != lun);
    Err(match device {
        Some(device) => Unusable::NoDisk(device & 0x1f, others),
        None => Unusable::NoUnit(others),
    })
}

/// The units that REPORT LUNS names, those of the simple addressing methods; none if the target does not say.
async fn units(session: &mut Session) -> Result<Vec<u16>, Finding> {
    let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    let reply = session.run(&Task::read(&cdb, 1024)).await?;
    let entries = reply.data.get(8..).unwrap_or_default().chunks_exact(8);
    Ok(entries
        .filter_map(|entry| Some(u16::from_be_bytes([*entry.first()?, *entry.get(1)?])))
        // Peripheral device addressing and flat space addressing (SAM-5 §4.7).
        .filter(|entry| entry >> 14 < 2)
        .map(|entry| entry & 0x3fff)
        .collect())
}

async fn look(session: &mut Session) -> Result<Facts, Finding> {
    session.take_attentions().await?;
    let (blocks, block_bytes) = capacity(session).await?;
    let inquiry = session.run(&Task::read(&[0x12, 0, 0, 0, 96], 96)).await?;
    let inquiry = inquiry.good("INQUIRY")?.data;
    // VPD page 80h; not every target has it.
    let serial = session
        .run(&Task::read(&[0x12, 1, 0x80, 0, 255], 255))
        .await?
        .data;
    // A target that does not even answer this is for the checks to judge.
    let read_only = is_write_protected(session).await.unwrap_or_default();
    Ok(Facts {
        block_bytes,
        blocks,
        serial: words(serial.get(4..).unwrap_or_default()),
        product: words(inquiry.get(8..36).unwrap_or_default()),
        read_only,
    })
}

/// How many blocks there are, and how many bytes each has; READ CAPACITY (10) where (16) is not known.
async fn capacity(session: &mut Session) -> Result<(u64, u32), Finding> {
    let long = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
    let reply = session.run(&Task::read(&long, 32)).await?;
    let (last, block) = if reply.is_unknown_opcode() {
        let short = session.run(&Task::read(&[0x25; 1], 8)).await?;
        let data = short.good("READ CAPACITY (10)")?.data;
        (word(&data, 0).map(u64::from), word(&data, 4))
    } else {
        let data = Reply::good(reply, "READ CAPACITY (16)")?.data;
        let last = data.first_chunk::<8>();
        (last.map(|last| u64::from_be_bytes(*last)), word(&data, 8))
    };
    match (last, block) {
        (Some(last), Some(block)) if block > 0 => Ok((last.saturating_add(1), block)),
        _ => Err(Finding::Violation(
            "READ CAPACITY says neither how many blocks there are nor how long they are".to_owned(),
        )),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

/// What a finding says, in a form that may be shown.
pub(crate) fn reason(finding: Finding) -> String {
    let (Finding::Violation(why)
    | Finding::NotApplicable(why)
    | Finding::Unreachable(why)
    | Finding::Broken(why)) = finding;
    printable(&why)
}

/// Printable text with single spaces.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
