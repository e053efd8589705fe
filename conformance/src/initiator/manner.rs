//! How the scripted target behaves where the standard leaves it a choice.

/// What a drill makes the target do. The default is an ordinary target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// StatSN of the first Login Response.
    pub(crate) stat_sn: u32,
    /// How many commands may be under way; 0 closes the window.
    pub(crate) window: u32,
    /// What the target wants of keys, in place of what an ordinary one wants.
    pub(crate) wants: &'static [(&'static str, &'static str)],
    /// Answers that are given as they are, whatever was offered.
    pub(crate) insists: &'static [(&'static str, &'static str)],
    /// Keys that the target declares, with its first answer of the operational stage.
    pub(crate) declares: &'static [(&'static str, &'static str)],
    /// Keys that the target proposes or declares, and that the initiator has to answer before the login goes on.
    pub(crate) asks: &'static [(&'static str, &'static str)],
    /// Of the keys to ask the first one alone that the initiator did not offer itself.
    pub(crate) asks_one: bool,
    /// Keys that the target sends with its second answer of the operational stage.
    pub(crate) afterwards: &'static [(&'static str, &'static str)],
    /// Looks whether the initiator waits for answers, before it gives them.
    pub(crate) dawdles: bool,
    /// A Data-In without data precedes the others.
    pub(crate) empty_first: bool,
    /// How many requests to move on the target answers by a "not yet", in each stage.
    pub(crate) reluctance: u32,
    /// The text of Login and Text Responses goes out in parts of so many bytes, with the C bit; 0 for whole.
    pub(crate) text_part: usize,
    /// Pairs of each Text Response; the rest follows behind a Target Transfer Tag, without the C bit. 0 for no limit.
    pub(crate) text_pairs: usize,
    /// Whether the target agrees to digests.
    pub(crate) digests: Digests,
    /// Lengths of the segments of Data-In, one after the other and over again; without any they are as long as they
    /// may be.
    pub(crate) segments: &'static [u32],
    /// The status comes in a SCSI Response even if the last Data-In could carry it.
    pub(crate) status_apart: bool,
    /// Lengths of R2Ts, one after the other and over again; without any they are as long as they may be.
    pub(crate) bursts: &'static [u32],
    /// How many R2Ts of a command may be outstanding, if the negotiation allows it.
    pub(crate) bursts_at_once: u32,
}

/// Which digests the target agrees to when they are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

impl Manner {
    /// An ordinary target.
    pub(crate) const PLAIN: Self = Self {
        stat_sn: 1,
        window: 32,
        wants: &[],
        insists: &[],
        declares: &[],
        asks: &[],
        asks_one: false,
        afterwards: &[],
        dawdles: false,
        empty_first: false,
        reluctance: 0,
        text_part: 0,
        text_pairs: 0,
        digests: Digests {
            header: false,
            data: false,
        },
        segments: &[],
        status_apart: false,
        bursts: &[],
        bursts_at_once: 1,
    };

    /// What the target wants of a negotiated key; of one that it does not know, nothing.
    pub(crate) fn wish(&self, key: &str) -> Option<&'static str> {
        let find = |pairs: &'static [(&'static str, &'static str)]| {
            let mut pairs = pairs.iter();
            pairs
                .find(|(name, _)| *name == key)
                .map(|(_, value)| *value)
        };
        find(self.wants).or_else(|| find(ORDINARY))
    }
}

/// What an ordinary target wants.
const ORDINARY: &[(&str, &str)] = &[
    ("MaxConnections", "1"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("MaxBurstLength", "262144"),
    ("FirstBurstLength", "65536"),
    ("DefaultTime2Wait", "0"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "8"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
    ("iSCSIProtocolLevel", "1"),
];
