//! Our initiator against tgt, another people's target.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::bounded;
use crate::foreign::Check;
use crate::foreign::bench::{Bench, LIMIT, expect, write_disk};
use crate::tgt::Tgt;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "tgt-discover",
        programs: &["tgtd"],
        run: discover,
    },
    Check {
        name: "tgt-read",
        programs: &["tgtd"],
        run: read,
    },
    Check {
        name: "tgt-write",
        programs: &["tgtd"],
        run: write,
    },
    Check {
        name: "tgt-copy",
        programs: &["tgtd"],
        run: copy,
    },
];

/// The name that tgt's target gets here.
pub(crate) const IQN: &str = "iqn.2026-11.test.vmthunder:tgt";

/// tgt with one disk, as LUN 1.
pub(crate) fn serve(folder: &Path, disk: &Path) -> Result<Tgt> {
    let tgt = Tgt::start(folder, 1)?;
    tgt.export(1, IQN, disk)?;
    Ok(tgt)
}

fn discover(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = serve(folder.path(), &disk)?;
    let url = format!("iscsi://{}", tgt.portals[0]);
    let text = bounded::succeed(bench.vmthunder().args(["iscsi", "discover", &url]), LIMIT)?.text();
    expect(&text, IQN)?;
    expect(&text, &tgt.portals[0])
}

fn read(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = serve(folder.path(), &disk)?;
    let bytes = fs::read(&disk)?;
    // One block, a run that is longer than a burst, and the last block.
    for (lba, blocks) in [(0, 1), (777, 9000), (bytes.len() / 512 - 1, 1)] {
        let mut command = bench.vmthunder();
        command.args([
            "iscsi",
            "read",
            &tgt.url(0, IQN),
            "--lba",
            &lba.to_string(),
            "--blocks",
            &blocks.to_string(),
        ]);
        let got = bounded::succeed(&mut command, LIMIT)?.stdout;
        ensure!(
            got == bytes[lba * 512..(lba + blocks) * 512],
            "{} blocks from {lba} are not the disk's",
            blocks
        );
    }
    Ok(())
}

fn write(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let mut expected = fs::read(&disk)?;
    let new = vec![0xc3; 3 << 20];
    let input = folder.path().join("new.raw");
    fs::write(&input, &new)?;
    {
        let tgt = serve(folder.path(), &disk)?;
        let mut command = bench.vmthunder();
        command.args(["iscsi", "write", &tgt.url(0, IQN), "--lba", "2049"]);
        bounded::succeed_with(&mut command, fs::File::open(&input)?.into(), LIMIT)?;
    }
    expected[2049 * 512..][..new.len()].copy_from_slice(&new);
    ensure!(
        fs::read(&disk)? == expected,
        "the disk does not hold what was written"
    );
    Ok(())
}

fn copy(bench: &Bench) -> Result<()> {
    let folder = bench.folder()?;
    let disk = folder.path().join("disk.raw");
    write_disk(&disk)?;
    let tgt = serve(folder.path(), &disk)?;
    let out = folder.path().join("copy.raw");
    bounded::succeed(
        bench
            .vmthunder()
            .args(["iscsi", "copy", &tgt.url(0, IQN)])
            .arg(&out),
        LIMIT,
    )?;
    ensure!(fs::read(&out)? == fs::read(&disk)?, "the copy differs");
    Ok(())
}
