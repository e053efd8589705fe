//! What of the suite cannot pass, and why: the one list of excuses.

use anyhow::Result;

use crate::suite::{Configuration, Tool};

/// A test that no honest target passes in these configurations.
pub(crate) struct Remaining {
    /// `Family.Test`, or `Family.` for all of them.
    pub(crate) test: &'static str,
    pub(crate) configurations: &'static [Configuration],
    pub(crate) why: &'static str,
}

/// The families that never write, but for [`WRITERS`]: the others begin by writing to a LUN that refuses it.
const NEVER_WRITE: &[&str] = &[
    "GetLBAStatus",
    "Inquiry",
    "Mandatory",
    "NoMedia",
    "Prefetch10",
    "Prefetch16",
    "PrinReadKeys",
    "PrinServiceactionRange",
    "PrinReportCapabilities",
    "Read6",
    "Read10",
    "Read12",
    "Read16",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReceiveCopyResults",
    "ReportSupportedOpcodes",
    "ReportTargetPortGroups",
    "TestUnitReady",
    "iSCSIcmdsn",
    "iSCSISendTargets",
    "iSCSINop",
];

/// The tests that write, of families that otherwise do not.
const WRITERS: &[&str] = &["GetLBAStatus.UnmapSingle", "ReceiveCopyResults.CopyStatus"];

const REMAINING: &[Remaining] = &[
    Remaining {
        test: "MultipathIO.",
        configurations: &[
            Configuration::Plain,
            Configuration::LongBlocks,
            Configuration::Removable,
            Configuration::ReadOnly,
        ],
        why: "asks for a second path: see the configuration with two portals",
    },
    Remaining {
        test: "ReadOnly.",
        configurations: &[
            Configuration::Plain,
            Configuration::LongBlocks,
            Configuration::TwoPortals,
            Configuration::Removable,
        ],
        why: "asks for a LUN that refuses writes: see the read-only configuration",
    },
    Remaining {
        test: "PreventAllow.",
        configurations: FIXED,
        why: "asks for a medium that can be removed: see the removable configuration",
    },
    Remaining {
        test: "StartStopUnit.Simple",
        configurations: FIXED,
        why: "asks for a medium that can be removed: see the removable configuration",
    },
    Remaining {
        test: "Sanitize.CryptoErase",
        configurations: WRITABLE,
        why: NOT_ENCRYPTED,
    },
    Remaining {
        test: "Sanitize.Readonly",
        configurations: WRITABLE,
        why: NOT_ENCRYPTED,
    },
    Remaining {
        test: "Sanitize.Reservations",
        configurations: WRITABLE,
        why: NOT_ENCRYPTED,
    },
    Remaining {
        test: "CompareAndWrite.InvalidDataOutSize",
        configurations: WRITABLE,
        why: ONE_BLOCK_SIZE,
    },
    Remaining {
        test: "WriteSame10.InvalidDataOutSize",
        configurations: WRITABLE,
        why: ONE_BLOCK_SIZE,
    },
    Remaining {
        test: "WriteSame16.InvalidDataOutSize",
        configurations: WRITABLE,
        why: ONE_BLOCK_SIZE,
    },
    Remaining {
        test: "WriteSame10.UnmapUnaligned",
        configurations: WRITABLE,
        why: ONE_BLOCK_SIZE,
    },
    Remaining {
        test: "WriteSame16.UnmapUnaligned",
        configurations: WRITABLE,
        why: ONE_BLOCK_SIZE,
    },
    Remaining {
        test: "WriteSame10.ZeroBlocks",
        configurations: WRITABLE,
        why: NO_BLOCKS,
    },
    Remaining {
        test: "WriteSame16.ZeroBlocks",
        configurations: WRITABLE,
        why: NO_BLOCKS,
    },
];

/// Where the medium stays.
const FIXED: &[Configuration] = &[
    Configuration::Plain,
    Configuration::LongBlocks,
    Configuration::TwoPortals,
];

/// Where writes are taken.
const WRITABLE: &[Configuration] = &[
    Configuration::Plain,
    Configuration::LongBlocks,
    Configuration::TwoPortals,
    Configuration::Removable,
];

const NOT_ENCRYPTED: &str = "counts as skipped unless CRYPTOGRAPHIC ERASE is offered, which throws the key of encrypted \
     data away: a file has none";

const ONE_BLOCK_SIZE: &str = "asks for physical blocks of several logical ones: a file has no physical blocks, and for a \
     target that claims some GetLBAStatus.UnmapSingle and WriteSame10.UnmapUntilEnd of the suite fail";

const NO_BLOCKS: &str = "asks for WRITE SAME of no blocks to mean all up to the end (WSNZ 0): here it is refused, and said to \
     be (WSNZ 1), since a request for nothing must not overwrite a disk";

/// Families that leave something behind on a second path, which lives as long as the process does.
const LEAVE_TRACES: &[&str] = &["Sanitize"];

impl Configuration {
    /// What is run in a process of its own: a family, or some of its tests one by one.
    ///
    /// With two portals Sanitize.Reservations takes a RESERVE(6) on the second path, which stays logged in, and ends
    /// without releasing it: the tests behind it would meet a reservation conflict.
    pub(crate) fn pieces(self, tool: &Tool, part: &str) -> Result<Vec<String>> {
        if self == Self::TwoPortals && LEAVE_TRACES.contains(&part) {
            return tool.tests(part);
        }
        let is_writer = |test: &str| test.split('.').next() == Some(part);
        if self == Self::ReadOnly && WRITERS.iter().any(|test| is_writer(test)) {
            let mut tests = tool.tests(part)?;
            tests.retain(|test| !WRITERS.contains(&test.as_str()));
            return Ok(tests);
        }
        Ok(vec![part.to_owned()])
    }

    /// True if a family says something about a LUN of this kind.
    pub(crate) fn applies(self, family: &str) -> bool {
        let family = family.split('.').next().unwrap_or_default();
        match self {
            Self::ReadOnly => NEVER_WRITE.contains(&family),
            Self::Chap => family == "iSCSICHAP",
            _ => true,
        }
    }
}

/// Why a test cannot pass there, if it cannot.
pub(crate) fn remaining(configuration: Configuration, test: &str) -> Option<&'static Remaining> {
    REMAINING.iter().find(|remaining| {
        let is_family = remaining.test.ends_with('.') && test.starts_with(remaining.test);
        (is_family || remaining.test == test) && remaining.configurations.contains(&configuration)
    })
}
