//! Nobody's disk is written by mistake.

use std::io::IsTerminal;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::status::size;

/// The disk that somebody wants to write to, as its owner knows it.
#[derive(Debug)]
pub(crate) struct Disk<'a> {
    /// Vendor, product and revision.
    pub(crate) product: &'a str,
    /// The unit serial number; empty if it has none.
    pub(crate) serial: &'a str,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Where it is, without a secret.
    pub(crate) url: &'a str,
}

/// Asks whether a disk may be written, unless that was said already; an error if not. `act` is what would be done,
/// as the beginning of a sentence that ends with the disk: "--destructive writes to".
pub(crate) async fn ask(disk: &Disk<'_>, act: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let size = size(disk.bytes);
    let (product, url) = (disk.product, disk.url);
    let serial = match disk.serial {
        "" => "none",
        serial => serial,
    };
    ensure!(
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        "{act} {url} ({product}, serial number {serial}, {size}), and there is no terminal to ask on: say --yes if that is meant"
    );
    // A disk without a serial number is named by where it is.
    let (what, word) = match disk.serial {
        "" => ("URL", url),
        serial => ("serial number", serial),
    };
    eprintln!("{act} this disk, and disturbs whoever else uses it:");
    eprintln!("  product        {product}");
    eprintln!("  serial number  {serial}");
    eprintln!("  size           {size}");
    eprintln!("  URL            {url}");
    eprint!(
        "What it holds may be lost; whatever has it mounted will break. Type its {what} to go on: "
    );
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
