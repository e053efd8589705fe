//! QEMU's iSCSI driver against our target.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::foreign::Check;
use crate::foreign::bench::{Bench, DISK_BYTES, ask, expect};

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "qemu-info",
        programs: &["qemu-img"],
        run: info,
    },
    Check {
        name: "qemu-compare",
        programs: &["qemu-img"],
        run: compare,
    },
    Check {
        name: "qemu-convert",
        programs: &["qemu-img"],
        run: convert,
    },
    Check {
        name: "qemu-io",
        programs: &["qemu-io"],
        run: write_and_read_back,
    },
];

fn info(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let text = ask("qemu-img", &["info", "--output=json", &served.url])?.text();
    let info: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(
        info["virtual-size"] == DISK_BYTES && info["format"] == "raw",
        "{info}"
    );
    served.daemon.stop()
}

/// The same bytes, and the same holes.
fn compare(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    identical(&["-s"], &served.disk, &served.url)?;
    served.daemon.stop()
}

/// Fails unless QEMU finds the same bytes in the LUN and the file.
pub(crate) fn compare_with(file: &Path, url: &str) -> Result<()> {
    identical(&[], file, url)
}

fn identical(options: &[&str], file: &Path, url: &str) -> Result<()> {
    let file = file.to_string_lossy();
    let args = [
        &["compare"],
        options,
        &["-f", "raw", "-F", "raw", &file, url],
    ]
    .concat();
    expect(&ask("qemu-img", &args)?.text(), "Images are identical.")
}

fn convert(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let copy = served.folder.path().join("copy.qcow2");
    ask(
        "qemu-img",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            &served.url,
            &copy.to_string_lossy(),
        ],
    )?;
    let (copy, disk) = (
        copy.to_string_lossy().into_owned(),
        served.disk.to_string_lossy().into_owned(),
    );
    expect(
        &ask(
            "qemu-img",
            &["compare", "-f", "qcow2", "-F", "raw", &copy, &disk],
        )?
        .text(),
        "identical",
    )?;
    // And the other way: out of a file into the LUN.
    ask(
        "qemu-io",
        &["-f", "raw", "-c", "write -P 0x11 3M 9M", &served.url],
    )?;
    ask(
        "qemu-img",
        &[
            "convert",
            "-n",
            "-f",
            "qcow2",
            "-O",
            "raw",
            &copy,
            &served.url,
        ],
    )?;
    expect(
        &ask(
            "qemu-img",
            &["compare", "-f", "qcow2", "-F", "raw", &copy, &disk],
        )?
        .text(),
        "identical",
    )?;
    served.daemon.stop()
}

fn write_and_read_back(bench: &Bench) -> Result<()> {
    let served = bench.serve()?;
    let before = fs::read(&served.disk)?;
    write_and_read(&served.url)?;
    served.daemon.stop()?;
    let after = fs::read(&served.disk)?;
    ensure!(
        after[(5 << 20) + 512..][..3072]
            .iter()
            .all(|byte| *byte == 0xa5),
        "the write is not in the file"
    );
    ensure!(
        after[12 << 20..][..4 << 20]
            .iter()
            .all(|byte| *byte == 0x5a),
        "the long write is not in the file"
    );
    ensure!(
        after[1 << 20..][..65536].iter().all(|byte| *byte == 0),
        "the discarded run is not zero"
    );
    ensure!(
        before[..1 << 20] == after[..1 << 20] && before[20 << 20..] == after[20 << 20..],
        "more was written"
    );
    Ok(())
}

/// Short, long, zero and discarding writes, a flush, and every one of them read back by QEMU past its cache.
pub(crate) fn write_and_read(url: &str) -> Result<()> {
    let commands = [
        "write -P 0xa5 5243392 3072",
        "read -P 0xa5 5243392 3072",
        "write -P 0x5a 12M 4M",
        "read -P 0x5a 12M 4M",
        "write -z 1M 65536",
        "read -P 0 1M 65536",
        "discard 1M 65536",
        "read -P 0 1M 65536",
        "write -f -P 0x77 6M 512",
        "flush",
        "read -P 0x77 6M 512",
    ];
    let mut args = vec!["-t", "none", "-f", "raw"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(url);
    let text = ask("qemu-io", &args)?.text();
    ensure!(
        !text.contains("failed") && !text.contains("error"),
        "{text}"
    );
    Ok(())
}
