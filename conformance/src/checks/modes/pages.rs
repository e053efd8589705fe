//! What mode pages say, and in which values (SPC-3 §6.9, §7.4.5; SBC-2 §6.3).

use super::{ALL, CHANGEABLE, CURRENT, DBD, DEFAULT, SAVED, all_pages, ask, form, most, try_ask};
use crate::bench::Bench;
use crate::check::{Verdict, checks, ensure, skip};
use crate::words;

checks! {
    "modes.pages.order", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE for all pages"
        => "pages in ascending order, page 00h behind all others, that fill the mode data to its last byte", order;
    "modes.pages.each", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE for all pages, then for each one of them"
        => "each page as it is among all pages", each;
    "modes.pages.lengths", "SPC-3 §7.4.5", Must, Reads,
        "MODE SENSE for all pages"
        => "PAGE LENGTH 12h of page 08h, 0Ah of 0Ah and of 1Ch", lengths;
    "modes.pages.unknown", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE for a page that is not among all pages"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", unknown;
    "modes.pages.unknown-subpage", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE for subpage DEh of a page that has none"
        => "ILLEGAL REQUEST, INVALID FIELD IN CDB", unknown_subpage;
    "modes.pages.subpages", "SPC-3 §6.9.1", Must, Reads,
        "MODE SENSE for all pages, subpage 00h"
        => "pages in the format that has no subpage code: those of other subpages are not asked for", subpages;
    "modes.control.changeable", "SPC-3 §6.9.3", Must, Reads,
        "MODE SENSE for all pages, changeable values"
        => "the pages that have current values, with the same lengths", changeable;
    "modes.control.default", "SPC-3 §6.9.4", Must, Reads,
        "MODE SENSE for all pages, default values"
        => "the pages that have current values, with the same lengths", default;
    "modes.control.saved", "SPC-3 §6.9.5", Must, Reads,
        "MODE SENSE for all pages, saved values"
        => "the values, or ILLEGAL REQUEST, SAVING PARAMETERS NOT SUPPORTED", saved;
    "modes.control.savable", "SPC-3 §7.4.5", Must, Reads,
        "MODE SENSE for all pages, current and saved values"
        => "PS zero in every page where saved values are not supported", savable;
}

async fn order(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let pages = all_pages(&mut session, form).await?;
    let code = |page: &Vec<u8>| page.first().map_or(0, |first| first & 0x3f);
    let codes: Vec<u8> = pages.iter().map(code).collect();
    // Page 00h comes behind all others.
    let ordered: Vec<u8> = codes.iter().map(|code| code.wrapping_sub(1)).collect();
    ensure!(
        ordered.is_sorted(),
        "the pages are not in ascending order: {}",
        words::codes(&codes)
    );
    Ok(())
}

async fn each(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let pages = all_pages(&mut session, form).await?;
    for page in pages.iter().filter(|page| is_plain(page)) {
        let code = page.first().map_or(0, |first| first & 0x3f);
        let data = ask(&mut session, form, CURRENT, code).await?;
        let alone = form.take_apart(&data)?.pages;
        ensure!(
            alone == [page.clone()],
            "page {code:02x}h is {} among all pages, and {} alone",
            words::hex(page),
            words::hex(&alone.concat())
        );
    }
    Ok(())
}

async fn lengths(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    for page in all_pages(&mut session, form).await? {
        let [first, length, ..] = *page else {
            continue;
        };
        let lawful: u8 = match first & 0x7f {
            // Caching.
            0x08 => 0x12,
            // Control, and informational exceptions control.
            0x0a | 0x1c => 0x0a,
            _ => continue,
        };
        ensure!(
            length == lawful,
            "PAGE LENGTH of page {:02x}h is {length:02x}h instead of {lawful:02x}h",
            first & 0x3f
        );
    }
    Ok(())
}

async fn unknown(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let pages = all_pages(&mut session, form).await?;
    let has = |code: u8| {
        let mut codes = pages.iter().filter_map(|page| page.first());
        codes.any(|first| first & 0x3f == code)
    };
    // Reserved ones of block devices.
    let Some(code) = (0x0b..=0x0f).find(|code| !has(*code)) else {
        skip!("all of pages 0Bh to 0Fh are there");
    };
    let reply = try_ask(&mut session, form, DBD, CURRENT, code).await?;
    reply.fails_with(&format!("MODE SENSE for page {code:02x}h"), 5, 0x24, 0)
}

async fn unknown_subpage(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let pages = all_pages(&mut session, form).await?;
    let Some(page) = pages.iter().find(|page| is_plain(page)) else {
        skip!("there are no mode pages");
    };
    let code = page.first().map_or(0, |first| first & 0x3f);
    let task = form.sense(DBD, CURRENT, code, 0xde, most(form));
    let reply = session.run(&task).await?;
    let what = format!("MODE SENSE for page {code:02x}h, subpage DEh");
    reply.fails_with(&what, 5, 0x24, 0)
}

async fn subpages(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    for page in all_pages(&mut session, form).await? {
        let [first, subpage, ..] = *page else {
            continue;
        };
        ensure!(
            first & 0x40 == 0,
            "page {:02x}h, subpage {subpage:02x}h, is among all pages with subpage 00h",
            first & 0x3f
        );
    }
    Ok(())
}

async fn changeable(bench: &Bench) -> Verdict {
    same_pages(bench, CHANGEABLE, "changeable").await
}

async fn default(bench: &Bench) -> Verdict {
    same_pages(bench, DEFAULT, "default").await
}

async fn same_pages(bench: &Bench, control: u8, name: &str) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let current = all_pages(&mut session, form).await?;
    let data = ask(&mut session, form, control, ALL).await?;
    let pages = form.take_apart(&data)?.pages;
    // PS is meant for current values.
    let kinds = |pages: &[Vec<u8>]| -> Vec<(u8, usize)> {
        let kind = |page: &Vec<u8>| (page.first().map_or(0, |first| first & 0x7f), page.len());
        pages.iter().map(kind).collect()
    };
    let told = |kinds: Vec<(u8, usize)>| {
        words::list(
            kinds
                .iter()
                .map(|(code, bytes)| format!("{code:02x}h of {bytes} bytes")),
        )
    };
    ensure!(
        kinds(&pages) == kinds(&current),
        "codes and lengths of pages with current values are {}, with {name} ones {}",
        told(kinds(&current)),
        told(kinds(&pages))
    );
    Ok(())
}

async fn saved(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let reply = try_ask(&mut session, form, DBD, SAVED, ALL).await?;
    if reply.status == 0 {
        return form.take_apart(&reply.data).map(|_| ());
    }
    reply.fails_with("MODE SENSE for saved values", 5, 0x39, 0)
}

async fn savable(bench: &Bench) -> Verdict {
    let mut session = bench.session().await?;
    let form = form(&mut session).await?;
    let reply = try_ask(&mut session, form, DBD, SAVED, ALL).await?;
    if reply.status == 0 {
        skip!("saved values are supported");
    }
    let pages = all_pages(&mut session, form).await?;
    let savable = pages
        .iter()
        .filter_map(|page| page.first())
        .find(|first| **first & 0x80 != 0);
    ensure!(
        savable.is_none(),
        "page {:02x}h has PS set: it can be saved; saved values end with {}",
        savable.unwrap_or(&0) & 0x3f,
        reply.outcome()
    );
    Ok(())
}

/// A page with no subpage code, whose form SPC-3 sets.
fn is_plain(page: &[u8]) -> bool {
    page.first()
        .is_some_and(|first| first & 0x40 == 0 && first & 0x3f != 0)
}
