//! What the suite finds out about its subject before it judges.

use crate::bench::Bench;
use crate::check::Finding;
use crate::session::Task;
use crate::subject::Subject;

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
}

/// Logs in to the subject as an ordinary initiator would and asks what its unit is; an error says what went wrong.
pub async fn probe(subject: &Subject) -> Result<Facts, String> {
    let bench = Bench::new(subject.clone(), Facts::default());
    look(&bench).await.map_err(|finding| match finding {
        Finding::Violation(why) | Finding::NotApplicable(why) | Finding::Unreachable(why) => why,
    })
}

async fn look(bench: &Bench) -> Result<Facts, Finding> {
    let mut session = bench.session().await?;
    // READ CAPACITY (16), 32 bytes.
    let capacity = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
    let capacity = session.run(&Task::read(&capacity, 32)).await?;
    let capacity = capacity.good("READ CAPACITY (16)")?.data;
    let (Some((last, rest)), Some(_)) = (capacity.split_first_chunk::<8>(), capacity.get(8..12))
    else {
        return Err(Finding::Violation(format!(
            "READ CAPACITY (16) brought {} bytes",
            capacity.len()
        )));
    };
    let inquiry = session.run(&Task::read(&[0x12, 0, 0, 0, 96], 96)).await?;
    let inquiry = inquiry.good("INQUIRY")?.data;
    // VPD page 80h; not every target has it.
    let serial = session
        .run(&Task::read(&[0x12, 1, 0x80, 0, 255], 255))
        .await?
        .data;
    Ok(Facts {
        block_bytes: rest
            .first_chunk::<4>()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes)),
        blocks: u64::from_be_bytes(*last).saturating_add(1),
        serial: words(serial.get(4..).unwrap_or_default()),
        product: words(inquiry.get(8..36).unwrap_or_default()),
    })
}

/// Printable text with single spaces.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace(char::is_control, " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
