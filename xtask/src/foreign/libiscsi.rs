//! libiscsi's tools against our target.

use anyhow::{Result, ensure};

use crate::foreign::Check;
use crate::foreign::bench::{Bench, DISK_BYTES, IQN, ask, expect};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "libiscsi-ls",
        programs: &["iscsi-ls"],
        run: ls,
    },
    Check {
        name: "libiscsi-inq",
        programs: &["iscsi-inq"],
        run: inq,
    },
    Check {
        name: "libiscsi-readcapacity16",
        programs: &["iscsi-readcapacity16"],
        run: readcapacity16,
    },
];

fn ls(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let text = ask("iscsi-ls", &["-s", served.portal()])?.text();
    expect(&text, &format!("Target:{IQN}"))?;
    let portal = served.portal().trim_start_matches("iscsi://");
    expect(&text, &format!("Portal:{portal},"))?;
    let lun = text
        .lines()
        .find(|line| line.trim_start().starts_with("Lun:0 "));
    ensure!(
        lun.is_some_and(|line| line.contains("DIRECT_ACCESS")),
        "no disk at LUN 0:\n{text}"
    );
    served.daemon.stop()
}

fn inq(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let text = ask("iscsi-inq", &[&served.url])?.text();
    expect(&text, "Peripheral Device Type:DIRECT_ACCESS")?;
    expect(&text, "Removable:0")?;
    let pages = ask("iscsi-inq", &["-e", "1", "-c", "0", &served.url])?.text();
    for page in [
        "UNIT_SERIAL_NUMBER",
        "DEVICE_IDENTIFICATION",
        "BLOCK_LIMITS",
        "LOGICAL_BLOCK_PROVISIONING",
    ] {
        expect(&pages, page)?;
    }
    served.daemon.stop()
}

fn readcapacity16(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let text = ask("iscsi-readcapacity16", &[&served.url])?.text();
    expect(
        &text,
        &format!("RETURNED LOGICAL BLOCK ADDRESS:{}", DISK_BYTES / 512 - 1),
    )?;
    expect(&text, "LOGICAL BLOCK LENGTH IN BYTES:512")?;
    expect(&text, &format!("Total size:{DISK_BYTES}"))?;
    served.daemon.stop()
}
