//! What the scripted target answers to keys (RFC 7143 §6.2, §12, §13).

use crate::initiator::login::Asked;
use crate::initiator::manner::Manner;
use crate::keys::Keys;
use crate::login::OPERATIONAL;

/// The negotiation of one login.
#[derive(Debug)]
pub(crate) struct Negotiation {
    pub(crate) manner: Manner,
    /// The results, and what the initiator declared.
    pub(crate) results: Keys,
    /// What the initiator answered to keys of the target.
    pub(crate) replies: Keys,
    introduced: bool,
    declared: bool,
    /// How often the target will say "not yet", in each stage.
    reluctance: [u32; 2],
    /// Keys that the target asked and that are not answered yet.
    pub(crate) open: Vec<&'static str>,
    /// How often the initiator said nothing about them.
    ignored: u32,
    /// True once the target has said what it says afterwards.
    spoke_again: bool,
}

impl Negotiation {
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            manner,
            results: Keys::default(),
            replies: Keys::default(),
            introduced: false,
            declared: false,
            reluctance: [manner.reluctance; 2],
            open: Vec::new(),
            ignored: 0,
            spoke_again: manner.afterwards.is_empty(),
        }
    }

    /// The negotiation of a login whose first responses a drill has given.
    pub(crate) fn introduced(manner: Manner) -> Self {
        Self {
            introduced: true,
            ..Self::new(manner)
        }
    }

    /// The answers to a request, and what the target has to say itself.
    pub(crate) fn answer(&mut self, asked: &Asked, discovery: bool) -> Keys {
        let mut keys = Keys::default();
        let before = self.open.len();
        for (key, value) in &asked.keys.0 {
            if let Some(at) = self.open.iter().position(|open| open == key) {
                self.open.remove(at);
                self.replies.set(key, value);
                if !matches!(value.as_str(), "NotUnderstood" | "Irrelevant" | "Reject") {
                    self.results.set(key, value);
                }
            } else if let Some(answer) = self.reply(key, value, discovery) {
                keys.set(key, &answer);
                self.results.set(key, &answer);
            } else {
                self.results.set(key, value);
            }
        }
        if !std::mem::replace(&mut self.introduced, true) {
            keys.set("TargetPortalGroupTag", "1");
        }
        if before > 0 && before == self.open.len() {
            self.ignored += 1;
        }
        if asked.stage() == OPERATIONAL && !std::mem::replace(&mut self.declared, true) {
            self.declare(&mut keys);
        } else if self.declared && !std::mem::replace(&mut self.spoke_again, true) {
            for (key, value) in self.manner.afterwards {
                keys.set(key, value);
                // A declaration has no answer.
                if *key != "MaxRecvDataSegmentLength" {
                    self.open.push(key);
                }
            }
        }
        keys
    }

    /// What the target has to say in the operational stage.
    fn declare(&mut self, keys: &mut Keys) {
        keys.set("MaxRecvDataSegmentLength", self.own_segment());
        for (key, value) in self.manner.declares {
            keys.set(key, value);
        }
        let most = if self.manner.asks_one { 1 } else { usize::MAX };
        let asks = self.manner.asks.iter();
        let fresh: Vec<_> = asks
            .filter(|(key, _)| self.results.get(key).is_none())
            .take(most)
            .collect();
        for (key, value) in fresh {
            keys.set(key, value);
            self.open.push(key);
        }
    }

    /// Whether the target agrees to the next stage, now that it is asked to.
    pub(crate) fn may_move(&mut self, stage: u8) -> bool {
        // Whoever says nothing about a key several times over will not.
        if !self.open.is_empty() && self.ignored < MOST_IGNORED {
            return false;
        }
        if self.declared && !self.spoke_again {
            return false;
        }
        let left = self.reluctance.get_mut(usize::from(stage));
        match left {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        }
    }

    /// True unless the target has more to say.
    pub(crate) fn is_over(&self) -> bool {
        self.declared || (self.manner.declares.is_empty() && self.manner.asks.is_empty())
    }

    /// The target's MaxRecvDataSegmentLength; the default if no stage came where it could be declared.
    pub(crate) fn own_limit(&self) -> u32 {
        match self.declared {
            true => self.own_segment().parse().unwrap_or(DEFAULT_SEGMENT),
            false => DEFAULT_SEGMENT,
        }
    }

    fn own_segment(&self) -> &'static str {
        let wish = self.manner.wish("MaxRecvDataSegmentLength");
        wish.unwrap_or("8192")
    }

    fn reply(&self, key: &str, offered: &str, discovery: bool) -> Option<String> {
        let mut insists = self.manner.insists.iter();
        if let Some((_, value)) = insists.find(|(name, _)| *name == key) {
            return Some((*value).to_owned());
        }
        let wish = self.manner.wish(key).unwrap_or_default();
        let values: Vec<&str> = offered.split(',').collect();
        Some(match key {
            "InitiatorName"
            | "TargetName"
            | "InitiatorAlias"
            | "SessionType"
            | "MaxRecvDataSegmentLength"
            | "X#NodeArchitecture"
            | "TargetAlias"
            | "TargetAddress"
            | "TargetPortalGroupTag" => return None,
            "AuthMethod" => choice(&values, &["None"]),
            "HeaderDigest" => digest(&values, self.manner.digests.header),
            "DataDigest" => digest(&values, self.manner.digests.data),
            "TaskReporting" => choice(&values, &["RFC3720"]),
            "InitialR2T"
            | "ImmediateData"
            | "MaxBurstLength"
            | "FirstBurstLength"
            | "MaxOutstandingR2T"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
                if discovery =>
            {
                "Irrelevant".to_owned()
            }
            "InitialR2T" | "DataPDUInOrder" | "DataSequenceInOrder" => {
                yes_or_no(offered == "Yes" || wish == "Yes")
            }
            "ImmediateData" => yes_or_no(offered == "Yes" && wish == "Yes"),
            "MaxConnections" | "MaxBurstLength" | "FirstBurstLength" | "DefaultTime2Retain"
            | "MaxOutstandingR2T" | "ErrorRecoveryLevel" | "iSCSIProtocolLevel" => {
                number(offered, wish, u32::min)
            }
            "DefaultTime2Wait" => number(offered, wish, u32::max),
            "IFMarker" | "OFMarker" => yes_or_no(false),
            "IFMarkInt" | "OFMarkInt" => "Reject".to_owned(),
            _ => "NotUnderstood".to_owned(),
        })
    }
}

/// The first of the offered values that the target supports.
fn choice(offered: &[&str], supported: &[&str]) -> String {
    let found = offered.iter().find(|value| supported.contains(value));
    (*found.unwrap_or(&"Reject")).to_owned()
}

/// A target that does not agree to digests still has to when there is no "None" among the values.
fn digest(offered: &[&str], agrees: bool) -> String {
    let order = match agrees {
        true => ["CRC32C", "None"],
        false => ["None", "CRC32C"],
    };
    let found = order.iter().find(|value| offered.contains(value));
    (*found.unwrap_or(&"Reject")).to_owned()
}

fn yes_or_no(yes: bool) -> String {
    if yes { "Yes" } else { "No" }.to_owned()
}

/// The result of a numerical negotiation; what is no number is rejected.
fn number(offered: &str, wish: &str, result: fn(u32, u32) -> u32) -> String {
    match (numeral(offered), numeral(wish)) {
        (Some(offered), Some(wish)) => result(offered, wish).to_string(),
        _ => "Reject".to_owned(),
    }
}

/// A number in decimal or hexadecimal notation (RFC 7143 §6.1).
pub(crate) fn numeral(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// So often an initiator may say nothing about a key that it was asked.
const MOST_IGNORED: u32 = 2;
/// MaxRecvDataSegmentLength where nothing was declared (RFC 7143 §13.12).
pub(crate) const DEFAULT_SEGMENT: u32 = 8192;
