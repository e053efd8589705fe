//! Nobody's disk is written by mistake.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail, ensure};
use iscsi_conformance::Facts;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::conformance::show::bytes;
use crate::status::size;

/// Asks whether a disk may be written, unless that was said already; an error if not.
pub(super) async fn ask(facts: &Facts, subject: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let size = size(bytes(facts));
    ensure!(
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        "--destructive writes to {subject} ({}, serial number {}, {size}), and there is no terminal to ask on: say --yes if that is meant",
        facts.product,
        serial(facts)
    );
    // A disk without a serial number is named by where it is.
    let (what, word) = if facts.serial.is_empty() {
        ("URL", subject)
    } else {
        ("serial number", facts.serial.as_str())
    };
    eprintln!("--destructive writes to this disk, and disturbs whoever else uses it:");
    eprintln!("  product        {}", facts.product);
    eprintln!("  serial number  {}", serial(facts));
    eprintln!("  size           {size}");
    eprintln!("  URL            {subject}");
    eprint!("What it holds may be lost. Type its {what} to go on: ");
    let mut typed = String::new();
    BufReader::new(tokio::io::stdin())
        .read_line(&mut typed)
        .await
        .context("cannot read what is typed")?;
    if !typed.ends_with('\n') {
        eprintln!();
    }
    if typed.split_whitespace().eq(word.split_whitespace()) {
        return Ok(());
    }
    bail!("that is not its {what}: nothing was written")
}

fn serial(facts: &Facts) -> &str {
    match facts.serial.as_str() {
        "" => "none",
        serial => serial,
    }
}
