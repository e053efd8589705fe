//! What a unit answers, question by question. What it does not know is left out, not an error.

use bytes::Bytes;
use iscsi_initiator::{Designator, Error, Session};
use iscsi_proto::scsi::mode::{self, ModeSummary};
use iscsi_proto::scsi::vpd::{self, Provisioning};
use iscsi_proto::scsi::{Command, ModeForm, PageControl, Sense, Status};
use iscsi_proto::session::Transfer;
use iscsi_proto::wire::lun::Lun;
use vmthunder_volume::Class;

use crate::iscsi::hex;

/// The peripheral device type of a disk.
pub(super) const DISK: u8 = 0x00;

/// The data of a command that went well.
pub(super) async fn ask(
    session: &Session,
    lun: Lun,
    command: &Command,
    transfer: Transfer,
) -> Result<Bytes, Error> {
    let done = session
        .execute(lun, command, transfer, Class::Demand)
        .await?;
    match done.status {
        Status::GOOD => Ok(done.data),
        status => Err(Error::Status {
            status,
            sense: Sense::parse(&done.sense),
        }),
    }
}

/// The same of a question that the unit need not know: `None` if it answered with an error of its own.
pub(super) async fn ask_if_known(
    session: &Session,
    lun: Lun,
    command: &Command,
    length: u32,
) -> Result<Option<Bytes>, Error> {
    match ask(session, lun, command, Transfer::Read(length)).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Status { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The unit serial number without spaces around it; empty if there is none.
pub(super) async fn serial(session: &Session, lun: Lun) -> Result<String, Error> {
    let page = session.vital_page(lun, vpd::UNIT_SERIAL_NUMBER).await?;
    let body = page.as_deref();
    let body = body.and_then(|page| vpd::body(vpd::UNIT_SERIAL_NUMBER, page));
    let serial = String::from_utf8_lossy(body.unwrap_or_default()).into_owned();
    Ok(serial.trim_matches([' ', '\0']).to_owned())
}

/// Write protection and write cache; `None` if the unit does not tell.
pub(super) async fn modes(session: &Session, lun: Lun) -> Result<Option<ModeSummary>, Error> {
    let command = Command::ModeSense {
        form: ModeForm::Six,
        control: PageControl::Current,
        page: ALL_PAGES,
        subpage: 0,
        no_block_descriptor: true,
        allocation: MODE_BYTES,
    };
    let answer = ask_if_known(session, lun, &command, MODE_BYTES.into()).await?;
    Ok(answer.and_then(|bytes| mode::parse(ModeForm::Six, &bytes)))
}

/// How blocks are provisioned; `None` if the unit does not tell.
pub(super) async fn provisioning(
    session: &Session,
    lun: Lun,
) -> Result<Option<Provisioning>, Error> {
    let page = session
        .vital_page(lun, vpd::LOGICAL_BLOCK_PROVISIONING)
        .await?;
    Ok(page.as_deref().and_then(Provisioning::parse))
}

/// A designator as text: what is text stays so, the rest becomes hexadecimal digits.
pub(super) fn readable(designator: &Designator) -> String {
    match (designator.code_set, std::str::from_utf8(&designator.value)) {
        (2 | 3, Ok(text)) => text.trim_matches([' ', '\0']).to_owned(),
        _ => hex(&designator.value),
    }
}

/// The NAA designator, if there is one (SPC-4 §7.8.6.6).
pub(super) fn naa(designators: &[Designator]) -> Option<String> {
    let naa = designators
        .iter()
        .find(|designator| designator.kind == KIND_NAA);
    naa.map(|designator| hex(&designator.value))
}

/// The peripheral device types that a target is likely to offer (SPC-4 table 138).
pub(super) fn kind(device_type: u8) -> &'static str {
    match device_type {
        DISK => "disk",
        0x01 => "tape",
        0x05 => "CD or DVD",
        0x08 => "medium changer",
        0x0c => "storage array controller, no disk",
        0x0d => "enclosure, no disk",
        _ => "no disk",
    }
}

/// MODE SENSE of all pages.
const ALL_PAGES: u8 = 0x3f;
const MODE_BYTES: u16 = 192;
const KIND_NAA: u8 = 3;
