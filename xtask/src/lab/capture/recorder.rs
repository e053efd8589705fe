//! A capture of the loopback that is under way.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::Daemon;

/// How long dumpcap may take to begin.
const LIMIT: Duration = Duration::from_secs(30);
/// What the kernel still holds when the last PDU was sent.
const SETTLE: Duration = Duration::from_secs(1);

/// dumpcap, capturing.
pub(crate) struct Recorder {
    dumpcap: Daemon,
}

impl Recorder {
    /// Captures what is said with these ports.
    pub(crate) fn start(folder: &Path, file: &Path, ports: &[u16]) -> Result<Self> {
        let filter: Vec<String> = ports
            .iter()
            .map(|port| format!("tcp port {port}"))
            .collect();
        let mut command = Command::new("dumpcap");
        command.args([
            "-q",
            "-B",
            "256",
            "-i",
            "lo",
            "-f",
            &filter.join(" or "),
            "-w",
        ]);
        let mut dumpcap = Daemon::start(command.arg(file), folder, "dumpcap.log")?;
        let deadline = Instant::now() + LIMIT;
        // It says on standard error when it captures.
        while !dumpcap.last_lines().contains("File: ") {
            dumpcap.check()?;
            ensure!(Instant::now() < deadline, "dumpcap does not begin");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { dumpcap })
    }

    /// Ends it, and fails if packets were lost.
    pub(crate) fn stop(self) -> Result<()> {
        thread::sleep(SETTLE);
        let log = self.dumpcap.stop_with_log()?;
        // Packets received/dropped on interface 'Loopback: lo': 45796/0 (pcap:0/...)
        let counts = log.split("received/dropped on interface").nth(1);
        let counts = counts.and_then(|line| line.split("': ").nth(1));
        let dropped = counts
            .and_then(|line| line.split(['/', ' ']).nth(1))
            .with_context(|| format!("dumpcap says how much it lost:\n{log}"))?;
        ensure!(dropped == "0", "dumpcap lost packets:\n{log}");
        Ok(())
    }
}
