//! What of the suite cannot pass, and why: the one list of excuses.

use crate::suite::Configuration;

/// A test that no honest target passes in these configurations.
pub(crate) struct Remaining {
    /// `Family.Test`, or `Family.` for all of them.
    pub(crate) test: &'static str,
    pub(crate) configurations: &'static [Configuration],
    pub(crate) why: &'static str,
}

/// The families that never write: the others begin by writing to a LUN that refuses it.
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
];

impl Configuration {
    /// True if a family says something about a LUN of this kind.
    pub(crate) fn applies(self, family: &str) -> bool {
        self != Self::ReadOnly || NEVER_WRITE.contains(&family)
    }
}

/// Why a test cannot pass there, if it cannot.
pub(crate) fn remaining(configuration: Configuration, test: &str) -> Option<&'static Remaining> {
    REMAINING.iter().find(|remaining| {
        let is_family = remaining.test.ends_with('.') && test.starts_with(remaining.test);
        (is_family || remaining.test == test) && remaining.configurations.contains(&configuration)
    })
}
