//! MODE SELECT: what it changes, and what it refuses (SPC-3 §6.7).

use super::{CHANGEABLE, CURRENT, DBD, Form, SAVED, ask, form, try_ask};
use crate::bench::Bench;
use crate::check::{Finding, Verdict, checks, ensure, skip};
use crate::session::{Reply, Session, Task};
use crate::words;

checks! {
    "modes.select.effect", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT of a bit that can be changed, then MODE SENSE"
        => "the bit is changed, and changed back by a second MODE SELECT", effect;
    "modes.select.unchangeable", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT of a bit that cannot be changed"
        => "ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST, and nothing is changed", unchangeable;
    "modes.select.unchanged", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT of what a page says already"
        => "GOOD", unchanged;
    "modes.select.unknown-page", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT of a page that the unit does not have"
        => "ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST", unknown_page;
    "modes.select.empty", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT with PARAMETER LIST LENGTH 0"
        => "GOOD: this is no error", empty;
    "modes.select.cut-header", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT with half a header"
        => "ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR", cut_header;
    "modes.select.cut-page", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT with a header and half a page"
        => "ILLEGAL REQUEST, PARAMETER LIST LENGTH ERROR", cut_page;
    "modes.select.save", "SPC-3 §6.7", Must, Writes,
        "MODE SELECT with SP, where saved values are not supported"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", save;
}

/// A bit of a mode page that can be changed, and the page as it was.
#[derive(Debug)]
pub(in crate::checks) struct Switch {
    form: Form,
    pub(in crate::checks) page: u8,
    before: Vec<u8>,
    at: usize,
    bit: u8,
}

impl Switch {
    /// Changes the bit.
    pub(in crate::checks) async fn flip(&self, session: &mut Session) -> Verdict {
        let mut page = self.before.clone();
        if let Some(byte) = page.get_mut(self.at) {
            *byte ^= self.bit;
        }
        let reply = session.run(&select(self.form, PF, &page)).await?;
        reply.good(&format!(
            "MODE SELECT of page {:02x}h with a change of byte {}, bit {:#04x}, which can be changed",
            self.page, self.at, self.bit
        ))?;
        Ok(())
    }

    /// Gives the page back what it was.
    pub(in crate::checks) async fn restore(&self, session: &mut Session) -> Verdict {
        let reply = session.run(&select(self.form, PF, &self.before)).await?;
        reply.good("MODE SELECT of what the page was")?;
        Ok(())
    }
}

/// A bit that can be changed, of those that all units agree about; there may be none.
pub(in crate::checks) async fn switch(session: &mut Session) -> Result<Switch, Finding> {
    let form = known(session).await?;
    for (page, at, bit) in SWITCHES {
        let Some((before, mask)) = values(session, form, page).await? else {
            continue;
        };
        if mask.get(at).is_some_and(|mask| mask & bit != 0) {
            return Ok(Switch {
                form,
                page,
                before,
                at,
                bit,
            });
        }
    }
    skip!("neither D_SENSE nor WCE nor RCD can be changed")
}

/// One page with current values.
pub(in crate::checks) async fn page(session: &mut Session, code: u8) -> Result<Vec<u8>, Finding> {
    let form = form(session).await?;
    let data = ask(session, form, CURRENT, code).await?;
    Ok(form.take_apart(&data)?.pages.concat())
}

async fn effect(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let switch = switch(&mut session).await?;
    switch.flip(&mut session).await?;
    let flipped = page(&mut session, switch.page).await;
    switch.restore(&mut session).await?;
    let restored = page(&mut session, switch.page).await?;
    let bit = |page: &[u8]| page.get(switch.at).map(|byte| byte & switch.bit);
    ensure!(
        bit(&flipped?) != bit(&switch.before),
        "bit {:#04x} of byte {} of page {:02x}h can be changed, and MODE SELECT does not change it",
        switch.bit,
        switch.at,
        switch.page
    );
    ensure!(
        stored(&restored) == switch.before,
        "page {:02x}h was {}, and is {} after it was changed back",
        switch.page,
        words::hex(&switch.before),
        words::hex(&restored)
    );
    Ok(())
}

async fn unchangeable(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    for (code, at, bit) in FIELDS {
        let Some((before, mask)) = values(&mut session, form, code).await? else {
            continue;
        };
        let mut wrong = before.clone();
        match (wrong.get_mut(at), mask.get(at)) {
            (Some(byte), Some(mask)) if mask & bit == 0 => *byte ^= bit,
            _ => continue,
        }
        let reply = session.run(&select(form, PF, &wrong)).await?;
        let after = page(&mut session, code).await?;
        let what =
            format!("MODE SELECT of page {code:02x}h with another bit {bit:#04x} of byte {at}");
        if stored(&after) != before && reply.status == 0 {
            session.run(&select(form, PF, &before)).await?;
        }
        reply.fails_with(&what, 5, 0x26, 0)?;
        ensure!(
            stored(&after) == before,
            "{what} is refused, and the page is {} instead of {}",
            words::hex(&after),
            words::hex(&before)
        );
        return Ok(());
    }
    skip!("every bit of the control and of the caching page can be changed")
}

async fn unchanged(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    let (before, _) = some_page(&mut session, form).await?;
    let reply = session.run(&select(form, PF, &before)).await?;
    reply.good("MODE SELECT of what the page says")?;
    Ok(())
}

async fn unknown_page(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    for code in 0x0b..=0x0f {
        if try_ask(&mut session, form, DBD, CURRENT, code)
            .await?
            .status
            != 0
        {
            let page = [code, 6, 0, 0, 0, 0, 0, 0];
            let reply = session.run(&select(form, PF, &page)).await?;
            let what = format!("MODE SELECT of page {code:02x}h");
            return reply.fails_with(&what, 5, 0x26, 0);
        }
    }
    skip!("all of pages 0Bh to 0Fh are there")
}

async fn empty(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    let reply = session.run(&list(form, PF, &[])).await?;
    reply.good("MODE SELECT with PARAMETER LIST LENGTH 0")?;
    Ok(())
}

async fn cut_header(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    let half = form.header_bytes() / 2;
    let reply = session.run(&list(form, PF, &vec![0; half])).await?;
    let what = format!("MODE SELECT with {half} bytes of a header");
    reply.fails_with(&what, 5, 0x1a, 0)
}

async fn cut_page(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    let (page, _) = some_page(&mut session, form).await?;
    let half = page.get(..page.len() / 2).unwrap_or_default();
    let reply = session.run(&select(form, PF, half)).await?;
    let what = format!(
        "MODE SELECT with {} of {} bytes of a page",
        half.len(),
        page.len()
    );
    reply.fails_with(&what, 5, 0x1a, 0)
}

async fn save(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = known(&mut session).await?;
    let saved = try_ask(&mut session, form, DBD, SAVED, super::ALL).await?;
    if saved.codes() != (5, 0x39, 0) {
        skip!("saved values end with {}", saved.outcome());
    }
    let (page, _) = some_page(&mut session, form).await?;
    let reply = session.run(&select(form, PF | SP, &page)).await?;
    reply.fails_with("MODE SELECT with SP", 5, 0x24, 0)
}

/// The form of MODE SELECT that the unit knows.
async fn known(session: &mut Session) -> Result<Form, Finding> {
    let form = form(session).await?;
    let reply: Reply = session.run(&list(form, PF, &[])).await?;
    if reply.is_unknown_opcode() {
        skip!("MODE SELECT is not supported");
    }
    Ok(form)
}

/// The first page that has defined fields, with its mask.
async fn some_page(session: &mut Session, form: Form) -> Result<(Vec<u8>, Vec<u8>), Finding> {
    for code in [0x0a, 0x08] {
        if let Some(found) = values(session, form, code).await? {
            return Ok(found);
        }
    }
    skip!("there is neither a control nor a caching page")
}

/// A page as MODE SELECT takes it, and the bits of it that can be changed.
async fn values(
    session: &mut Session,
    form: Form,
    code: u8,
) -> Result<Option<(Vec<u8>, Vec<u8>)>, Finding> {
    let current = try_ask(session, form, DBD, CURRENT, code).await?;
    let mask = try_ask(session, form, DBD, CHANGEABLE, code).await?;
    if current.status != 0 || mask.status != 0 {
        return Ok(None);
    }
    let page = form.take_apart(&current.data)?.pages.concat();
    let mask = form.take_apart(&mask.data)?.pages.concat();
    Ok(Some((stored(&page), mask)))
}

/// A page with PS zero: the bit is reserved in MODE SELECT.
fn stored(page: &[u8]) -> Vec<u8> {
    let mut page = page.to_vec();
    if let Some(first) = page.first_mut() {
        *first &= 0x7f;
    }
    page
}

/// MODE SELECT of a page.
fn select(form: Form, flags: u8, page: &[u8]) -> Task {
    let mut bytes = vec![0; form.header_bytes()];
    bytes.extend_from_slice(page);
    list(form, flags, &bytes)
}

/// MODE SELECT of a list.
fn list(form: Form, flags: u8, bytes: &[u8]) -> Task {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    let bytes = bytes.to_vec();
    match (form, bytes.is_empty()) {
        (Form::Six, true) => Task::bare(&[0x15, flags]),
        (Form::Ten, true) => Task::bare(&[0x55, flags]),
        (Form::Six, false) => Task::write(&[0x15, flags, 0, 0, length, 0], bytes),
        (Form::Ten, false) => Task::write(&[0x55, flags, 0, 0, 0, 0, 0, 0, length, 0], bytes),
    }
}

/// Page format: the list is made of mode pages.
const PF: u8 = 0x10;
/// Save the pages, too.
const SP: u8 = 0x01;
/// Page, byte, bit of what may be changed without harm: D_SENSE, WCE, RCD.
const SWITCHES: [(u8, usize, u8); 3] = [(0x0a, 2, 0x04), (0x08, 2, 0x04), (0x08, 2, 0x01)];
/// Page, byte, bit of fields that SPC-3 and SBC-2 define: TST, QERR, TAS, SWP, D_SENSE, RCD, WCE.
const FIELDS: [(u8, usize, u8); 7] = [
    (0x0a, 2, 0x20),
    (0x0a, 3, 0x02),
    (0x0a, 5, 0x40),
    (0x0a, 4, 0x08),
    (0x0a, 2, 0x04),
    (0x08, 2, 0x01),
    (0x08, 2, 0x04),
];
