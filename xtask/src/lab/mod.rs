//! Chores of the laboratory: what is too slow, or needs too much, for every test run.

mod boot;
mod capture;
mod conformance;
mod crowd;
mod guest;
mod initiators;
mod instances;
mod kernel;
mod outage;
mod site;
pub(crate) mod storm;
mod suite;
mod warm;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::foreign;
use crate::repo::Repo;
use crate::tally::Tally;

/// A chore of the laboratory.
#[derive(Subcommand)]
pub(crate) enum Lab {
    /// Boot Debian under QEMU from the instance of one node, then of another, and tell where the bytes came from.
    Boot {
        /// The folder with golden.raw; it is built there if it is missing (as root, with mmdebstrap).
        #[arg(long, value_name = "FOLDER")]
        golden: Option<PathBuf>,
    },
    /// Sessions of every feature, captured on the loopback as root, and decoded by Wireshark.
    Capture(capture::CaptureArgs),
    /// Our conformance suite against our target and every other that can be started here; writes docs/conformance.md.
    Conformance(conformance::ConformanceArgs),
    /// Ten thousand half-open logins and a thousand idle sessions: memory, and what others notice.
    Crowd(crowd::CrowdArgs),
    /// A guest that boots from our target deletes a file and trims: what the sparse file holds before and after.
    Fstrim(guest::GuestArgs),
    /// Our suite's drills for initiators: ours, QEMU, libiscsi's tools and the Linux kernel's; writes
    /// docs/conformance-initiators.md.
    Initiators(initiators::InitiatorsArgs),
    /// A thousand instances on one node: time, memory, open files, idle CPU, a restart, and whether each answers.
    Instances(instances::InstancesArgs),
    /// iPXE boots the golden image from our target, and Linux goes on from it.
    Ipxe(guest::GuestArgs),
    /// The Linux kernel's initiator, in a QEMU guest, against our target or tgt: one to five minutes.
    Kernel(kernel::KernelArgs),
    /// A guest works on the disk of an instance while its node is killed again and again, and while the origin is away:
    /// twenty minutes.
    Outage(outage::OutageArgs),
    /// Nodes on hosts of their own with limited links, whose guests boot at once, as root: times and bytes beside what the
    /// links allow.
    Storm(storm::StormArgs),
    /// libiscsi's test suite against our target in every configuration, and against tgt; writes docs/libiscsi-suite.md.
    Suite(suite::SuiteArgs),
    /// A recorded boot, replayed cold, warm, and after kill -9: what comes from the origin and from peers.
    Warm(warm::WarmArgs),
}

/// Runs a chore.
pub(crate) fn run(repo: &Repo, chore: &Lab) -> Result<Tally> {
    match chore {
        Lab::Boot { golden } => boot::run(repo, golden.as_deref()),
        Lab::Capture(args) => capture::run(repo, args),
        Lab::Conformance(args) => conformance::run(repo, args),
        Lab::Crowd(args) => crowd::run(repo, args),
        Lab::Fstrim(args) => guest::fstrim(repo, args),
        Lab::Initiators(args) => initiators::run(repo, args),
        Lab::Instances(args) => instances::run(repo, args),
        Lab::Ipxe(args) => guest::ipxe(repo, args),
        Lab::Kernel(args) => kernel::run(repo, args),
        Lab::Outage(args) => outage::run(repo, args),
        Lab::Storm(args) => storm::run(repo, args),
        Lab::Suite(args) => suite::run(repo, args),
        Lab::Warm(args) => warm::run(repo, args),
    }
}

/// The program that is judged.
#[derive(Args)]
pub(crate) struct Program {
    /// A `vmthunder` that is built already; without it the tree's own is built.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

impl Program {
    fn build(&self, repo: &Repo) -> Result<PathBuf> {
        self.program
            .clone()
            .map_or_else(|| foreign::build(repo), Ok)
    }

    fn build_release(&self, repo: &Repo) -> Result<PathBuf> {
        self.program
            .clone()
            .map_or_else(|| foreign::build_release(repo), Ok)
    }
}
