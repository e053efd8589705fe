//! The negotiable keys (RFC 7143 §13 and §12.1) as one table, and what comes out of a negotiation.

use std::fmt;

/// What kind of session a login asks for (RFC 7143 §13.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionType {
    /// SCSI commands to one target.
    #[default]
    Normal,
    /// Nothing but SendTargets.
    Discovery,
}

/// The outcome of a negotiation. The default is what holds when nothing was negotiated. MaxConnections is always 1 and
/// ErrorRecoveryLevel always 0: nobody asks for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Headers carry a CRC32C digest.
    pub header_digest: bool,
    /// Data segments carry a CRC32C digest.
    pub data_digest: bool,
    /// The initiator waits for an R2T before it sends Data-Out.
    pub initial_r2t: bool,
    /// Commands may carry data of their own.
    pub immediate_data: bool,
    /// The longest sequence of Data-In, or of solicited Data-Out, in bytes.
    pub max_burst_length: u32,
    /// The most unsolicited data of one command, immediate data included, in bytes.
    pub first_burst_length: u32,
    /// The most R2Ts that one task may have outstanding.
    pub max_outstanding_r2t: u16,
    /// The longest data segment that we take.
    pub max_recv_data_segment_length: u32,
    /// The longest data segment that the peer takes.
    pub max_send_data_segment_length: u32,
    /// Seconds to wait before a lost connection is reinstated.
    pub time2wait: u16,
    /// Seconds after that for which tasks are kept.
    pub time2retain: u16,
    /// Normal or discovery.
    pub session_type: SessionType,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            max_recv_data_segment_length: 8192,
            max_send_data_segment_length: 8192,
            time2wait: 2,
            time2retain: 20,
            session_type: SessionType::Normal,
        }
    }
}

/// How a key is settled between the one who proposes and the one who accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first value of the proposer's list that the accepter supports (RFC 7143 §6.2.1).
    List,
    /// Yes if both say Yes (RFC 7143 §6.2.2).
    And,
    /// Yes if one says Yes (RFC 7143 §6.2.2).
    Or,
    /// The smaller of two numbers, each within the bounds.
    Minimum(u32, u32),
    /// The greater of two numbers, each within the bounds.
    Maximum(u32, u32),
    /// Told, not negotiated.
    Declared,
    /// A number within the bounds, told and not negotiated.
    DeclaredNumber(u32, u32),
    /// Answered by text of its own: SendTargets.
    Request,
    /// A step of an authentication method (RFC 7143 §12.1).
    Authentication,
    /// Gone since RFC 7143; always answered by this (RFC 7143 §13.25).
    Obsolete(&'static str),
}

/// When a key may be used: "LO", "IO", "ALL" and "FFPO" of RFC 7143 §13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// In the login of a session's first connection.
    LeadingOnly,
    /// In a login.
    InitializeOnly,
    /// In a login and afterwards.
    Always,
    /// After the login.
    FullFeatureOnly,
}

/// Who may send a key of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
    /// Either.
    Both,
}

/// In which stage of the login a key may be used (RFC 7143 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStage {
    /// SecurityNegotiation.
    Security,
    /// LoginOperationalNegotiation.
    Operational,
    /// Both: "Any-Stage".
    Any,
}

/// What the standard says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The key as it is written.
    pub name: &'static str,
    /// How it is settled.
    pub kind: Kind,
    /// When it may be used.
    pub usage: Use,
    /// Who may send it.
    pub sender: Sender,
    /// In which stage it may be used.
    pub stage: KeyStage,
    /// False if it is irrelevant in discovery sessions.
    pub in_discovery: bool,
}

macro_rules! keys {
    ($($key:ident $name:literal $kind:expr, $usage:ident, $sender:ident, $stage:ident, $in_discovery:literal;)*) => {
        /// A key that the standard knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`")] $key,)*
        }

        impl Key {
            /// Every key, in the order of the standard.
            pub const ALL: &'static [Self] = &[$(Self::$key,)*];

            /// What the standard says about the key.
            pub const fn rule(self) -> Rule {
                match self {
                    $(Self::$key => Rule {
                        name: $name,
                        kind: $kind,
                        usage: Use::$usage,
                        sender: Sender::$sender,
                        stage: KeyStage::$stage,
                        in_discovery: $in_discovery,
                    },)*
                }
            }
        }
    };
}

const SEGMENT_MAX: u32 = (1 << 24) - 1;

keys! {
    // key               name                        how it is settled         when            by whom  stage  discovery
    AuthMethod           "AuthMethod"                Kind::List,                InitializeOnly,  Both,      Security,    true;
    ChapA                "CHAP_A"                    Kind::Authentication,      InitializeOnly,  Both,      Security,    true;
    ChapI                "CHAP_I"                    Kind::Authentication,      InitializeOnly,  Both,      Security,    true;
    ChapC                "CHAP_C"                    Kind::Authentication,      InitializeOnly,  Both,      Security,    true;
    ChapN                "CHAP_N"                    Kind::Authentication,      InitializeOnly,  Both,      Security,    true;
    ChapR                "CHAP_R"                    Kind::Authentication,      InitializeOnly,  Both,      Security,    true;
    HeaderDigest         "HeaderDigest"              Kind::List,                InitializeOnly,  Both,      Operational, true;
    DataDigest           "DataDigest"                Kind::List,                InitializeOnly,  Both,      Operational, true;
    MaxConnections       "MaxConnections"            Kind::Minimum(1, 65_535),  LeadingOnly,     Both,      Operational, false;
    SendTargets          "SendTargets"               Kind::Request,             FullFeatureOnly, Initiator, Operational, true;
    TargetName           "TargetName"                Kind::Declared,            InitializeOnly,  Initiator, Any,         true;
    InitiatorName        "InitiatorName"             Kind::Declared,            InitializeOnly,  Initiator, Any,         true;
    TargetAlias          "TargetAlias"               Kind::Declared,            Always,          Target,    Any,         true;
    InitiatorAlias       "InitiatorAlias"            Kind::Declared,            Always,          Initiator, Any,         true;
    TargetAddress        "TargetAddress"             Kind::Declared,            Always,          Target,    Any,         true;
    TargetPortalGroupTag "TargetPortalGroupTag"      Kind::DeclaredNumber(0, 65_535), InitializeOnly, Target, Any,       true;
    InitialR2T           "InitialR2T"                Kind::Or,                  LeadingOnly,     Both,      Operational, false;
    ImmediateData        "ImmediateData"             Kind::And,                 LeadingOnly,     Both,      Operational, false;
    MaxRecvDataSegmentLength "MaxRecvDataSegmentLength" Kind::DeclaredNumber(512, SEGMENT_MAX), Always, Both, Operational, true;
    MaxBurstLength       "MaxBurstLength"            Kind::Minimum(512, SEGMENT_MAX), LeadingOnly, Both,    Operational, false;
    FirstBurstLength     "FirstBurstLength"          Kind::Minimum(512, SEGMENT_MAX), LeadingOnly, Both,    Operational, false;
    DefaultTime2Wait     "DefaultTime2Wait"          Kind::Maximum(0, 3600),    LeadingOnly,     Both,      Operational, true;
    DefaultTime2Retain   "DefaultTime2Retain"        Kind::Minimum(0, 3600),    LeadingOnly,     Both,      Operational, true;
    MaxOutstandingR2T    "MaxOutstandingR2T"         Kind::Minimum(1, 65_535),  LeadingOnly,     Both,      Operational, false;
    DataPduInOrder       "DataPDUInOrder"            Kind::Or,                  LeadingOnly,     Both,      Operational, false;
    DataSequenceInOrder  "DataSequenceInOrder"       Kind::Or,                  LeadingOnly,     Both,      Operational, false;
    ErrorRecoveryLevel   "ErrorRecoveryLevel"        Kind::Minimum(0, 2),       LeadingOnly,     Both,      Operational, true;
    SessionType          "SessionType"               Kind::Declared,            LeadingOnly,     Initiator, Any,         true;
    TaskReporting        "TaskReporting"             Kind::List,                LeadingOnly,     Both,      Operational, false;
    IscsiProtocolLevel   "iSCSIProtocolLevel"        Kind::Minimum(0, 31),      LeadingOnly,     Both,      Operational, false;
    IfMarker             "IFMarker"                  Kind::Obsolete("No"),      InitializeOnly,  Both,      Operational, true;
    OfMarker             "OFMarker"                  Kind::Obsolete("No"),      InitializeOnly,  Both,      Operational, true;
    IfMarkInt            "IFMarkInt"                 Kind::Obsolete("Reject"),  InitializeOnly,  Both,      Operational, true;
    OfMarkInt            "OFMarkInt"                 Kind::Obsolete("Reject"),  InitializeOnly,  Both,      Operational, true;
    NodeArchitecture     "X#NodeArchitecture"        Kind::Declared,            LeadingOnly,     Both,      Any,         true;
}

impl Key {
    /// The key of this name; keys are case-sensitive (RFC 7143 §6.1).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|key| key.rule().name == name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule().name)
    }
}

/// Reads a numerical value, decimal or hexadecimal (RFC 7143 §6.1).
pub fn parse_number(value: &str) -> Option<u64> {
    let (digits, radix) = match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::{Key, parse_number};

    #[test]
    fn keys_are_found_by_their_exact_names() {
        assert_eq!(
            Key::from_name("iSCSIProtocolLevel"),
            Some(Key::IscsiProtocolLevel)
        );
        assert_eq!(
            Key::from_name("X#NodeArchitecture"),
            Some(Key::NodeArchitecture)
        );
        assert_eq!(Key::from_name("headerdigest"), None);
        assert_eq!(
            Key::ALL.len(),
            35,
            "29 keys of RFC 7143 §13, AuthMethod and five keys of CHAP"
        );
        for &key in Key::ALL {
            assert_eq!(Key::from_name(&key.to_string()), Some(key));
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse_number("262144"), Some(262_144));
        assert_eq!(parse_number("0x40000"), Some(262_144));
        assert_eq!(parse_number("0XfF"), Some(255));
        assert_eq!(parse_number("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "0x",
            "+5",
            "-5",
            "5 ",
            "5~9",
            "18446744073709551616",
            "1_000",
            "Yes",
            "0x+5",
        ] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }
}
