//! What makes the sound target one of several connections: it stands before it, answers the logins of further
//! connections itself, and leads what comes on them over the first one. StatSN is counted for each connection anew.

use std::collections::BTreeMap;

use iscsi_proto::wire::bhs::{
    DataIn, FINAL, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RESERVED_TAG, STATUS,
};
use iscsi_proto::wire::{Header, Pdu, text};

use super::{Act, Lane, Post, Saboteur, Seen};

/// Two connections for every session whose initiator asks for them.
pub(crate) fn several() -> Saboteur {
    let mut groups = Groups::default();
    Box::new(move |seen, lane| match seen {
        Seen::Request(pdu) => groups.asked(pdu, lane),
        Seen::Response(pdu) => groups.answered(pdu, lane),
        Seen::TargetClosed => {
            // The target knows nothing of further connections, and waits in vain for their logins.
            if groups
                .group_of(lane.number)
                .is_some_and(|lead| lead != lane.number)
            {
                lane.stay();
            } else {
                groups.gone(lane);
            }
            Act::Pass
        }
    })
}

/// Sessions, by the number of their first connection.
#[derive(Default)]
struct Groups(BTreeMap<usize, Group>);

#[derive(Default)]
struct Group {
    discovers: bool,
    offered: u32,
    limit: usize,
    tsih: u16,
    isid: [u8; 6],
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// What the target's next status has as its number.
    next_stat_sn: u32,
    /// By number of the connection.
    members: BTreeMap<usize, Member>,
    /// Which connection a task came on.
    tasks: BTreeMap<u32, usize>,
}

struct Member {
    cid: u16,
    next_stat_sn: u32,
}

impl Groups {
    fn group_of(&self, number: usize) -> Option<usize> {
        let mut groups = self.0.iter();
        let found = groups.find(|(_, group)| group.members.contains_key(&number));
        found.map(|(lead, _)| *lead)
    }

    fn asked(&mut self, pdu: &Pdu, lane: &mut Lane) -> Act {
        if let Header::LoginRequest(login) = &pdu.header {
            return self.login(login, pdu, lane);
        }
        let Some(lead) = self.group_of(lane.number) else {
            return Act::Pass;
        };
        let Some(group) = self.0.get_mut(&lead) else {
            return Act::Pass;
        };
        if let Header::LogoutRequest(logout) = &pdu.header
            && group.logged_out(logout, lead, lane)
        {
            return Act::Replace(Vec::new());
        }
        let tag = pdu.header.common().initiator_task_tag.get();
        if tag != RESERVED_TAG {
            group.tasks.insert(tag, lane.number);
        }
        if group.members.len() == 1 && lane.number == lead {
            return Act::Pass;
        }
        let pdu = with_word(pdu, 28, group.next_stat_sn);
        if lane.number == lead {
            return Act::Replace(vec![pdu]);
        }
        if !lane.post(lead, Post::ToTarget(pdu)) {
            // The session went with its first connection.
            self.0.remove(&lead);
            lane.hang_up();
        }
        Act::Replace(Vec::new())
    }

    fn login(&mut self, login: &LoginRequest, pdu: &Pdu, lane: &mut Lane) -> Act {
        let joins = |group: &&mut Group| {
            let is_new = group.members.values().all(|m| m.cid != login.cid.get());
            let is_of = group.tsih == login.tsih.get() && group.isid == login.isid;
            is_of && (is_new || group.members.contains_key(&lane.number)) && group.limit > 1
        };
        let known = |group: &&mut Group| login.tsih.get() != 0 && joins(group);
        if let Some(group) = self.0.values_mut().find(known) {
            group.join(login, pdu, lane);
            return Act::Replace(Vec::new());
        }
        let group = self.0.entry(lane.number).or_default();
        group.isid = login.isid;
        group.discovers |= is_discovery(pdu);
        if let Some(offered) = number(pdu, "MaxConnections") {
            group.offered = offered;
        }
        group.members.insert(
            lane.number,
            Member {
                cid: login.cid.get(),
                next_stat_sn: 0,
            },
        );
        Act::Pass
    }

    fn answered(&mut self, pdu: &Pdu, lane: &mut Lane) -> Act {
        let Some(group) = self.0.get_mut(&lane.number) else {
            return Act::Pass;
        };
        let mut pdu = pdu.clone();
        group.note(&pdu);
        if let Header::LoginResponse(answer) = &pdu.header {
            group.tsih = answer.tsih.get();
            if group.offered > 1
                && !group.discovers
                && rewrite(&mut pdu, "MaxConnections", "1", "2")
            {
                group.limit = 2;
                return Act::Replace(vec![pdu]);
            }
            return Act::Pass;
        }
        if group.limit < 2 {
            return Act::Pass;
        }
        let to = group.addressee(&pdu, lane.number);
        let ends = matches!(pdu.header, Header::LogoutResponse(_));
        let pdu = group.numbered(&pdu, to);
        if ends {
            group.hang_up_others(lane);
        }
        if to == lane.number {
            return Act::Replace(vec![pdu]);
        }
        lane.post(to, Post::ToInitiator(pdu));
        Act::Replace(Vec::new())
    }

    /// A connection is over. With the first one the session is, with another one nothing else.
    fn gone(&mut self, lane: &mut Lane) {
        if let Some(group) = self.0.remove(&lane.number) {
            group.hang_up_others(lane);
        }
        for group in self.0.values_mut() {
            group.members.remove(&lane.number);
        }
    }
}

impl Group {
    /// One step of the login of a further connection.
    fn join(&mut self, login: &LoginRequest, pdu: &Pdu, lane: &mut Lane) {
        let full = self.members.len() >= self.limit && !self.members.contains_key(&lane.number);
        let mut answer = LoginResponse {
            flags: login.flags,
            isid: login.isid,
            tsih: login.tsih,
            initiator_task_tag: login.initiator_task_tag,
            exp_cmd_sn: self.exp_cmd_sn.into(),
            max_cmd_sn: self.max_cmd_sn.into(),
            ..LoginResponse::default()
        };
        if full {
            // Too many connections.
            (answer.status_class, answer.status_detail) = (0x02, 0x06);
            lane.to_initiator(Pdu::bare(answer));
            return lane.hang_up();
        }
        let cid = login.cid.get();
        let is_first = !self.members.contains_key(&lane.number);
        let member = self.members.entry(lane.number).or_insert(Member {
            cid,
            next_stat_sn: 1,
        });
        answer.stat_sn = member.next_stat_sn.into();
        member.next_stat_sn += 1;
        let mut keys = Vec::new();
        let mut say = |key: &str, value: &str| keys.push((key.to_owned(), value.to_owned()));
        if is_first {
            say("TargetPortalGroupTag", "1");
        }
        for (key, _) in text::parse(&pdu.data).unwrap_or_default() {
            match key.as_str() {
                "AuthMethod" | "HeaderDigest" | "DataDigest" => say(&key, "None"),
                "MaxRecvDataSegmentLength" => say(&key, "8192"),
                _ => {}
            }
        }
        lane.to_initiator(Pdu::new(answer, text::encode(&keys)));
    }

    /// Closes one connection of several; the target hears of the others alone. The first one carries them all, so what
    /// is said about it goes on to the target.
    fn logged_out(&mut self, logout: &LogoutRequest, lead: usize, lane: &mut Lane) -> bool {
        let cid = logout.cid.get();
        let found = self.members.iter().find(|(_, member)| member.cid == cid);
        let Some((&closing, _)) = found.filter(|(number, _)| **number != lead) else {
            return false;
        };
        if logout.reason & !FINAL != 1 {
            return false;
        }
        let answer = Pdu::bare(LogoutResponse {
            flags: FINAL,
            initiator_task_tag: logout.initiator_task_tag,
            exp_cmd_sn: self.exp_cmd_sn.into(),
            max_cmd_sn: self.max_cmd_sn.into(),
            ..LogoutResponse::default()
        });
        let answer = self.numbered(&answer, lane.number);
        lane.to_initiator(answer);
        self.members.remove(&closing);
        if closing == lane.number {
            lane.hang_up();
        } else {
            lane.post(closing, Post::HangUp);
        }
        true
    }

    /// The session is over for every connection but this one, which finds out by itself.
    fn hang_up_others(&self, lane: &Lane) {
        for member in self.members.keys().filter(|member| **member != lane.number) {
            lane.post(*member, Post::HangUp);
        }
    }

    fn note(&mut self, pdu: &Pdu) {
        (self.exp_cmd_sn, self.max_cmd_sn) = (word(pdu, 28), word(pdu, 32));
        if is_numbered(pdu) {
            self.next_stat_sn = word(pdu, 24).wrapping_add(1);
            if self.limit < 2 || matches!(pdu.header, Header::LoginResponse(_)) {
                for member in self.members.values_mut() {
                    member.next_stat_sn = self.next_stat_sn;
                }
            }
        }
    }

    /// The connection that an answer belongs to; a Reject belongs to what it rejects.
    fn addressee(&self, pdu: &Pdu, lead: usize) -> usize {
        let tag = match &pdu.header {
            Header::Reject(_) => pdu.data.get(16..20).map_or(RESERVED_TAG, |four| {
                u32::from_be_bytes(four.try_into().unwrap())
            }),
            header => header.common().initiator_task_tag.get(),
        };
        let known = self.tasks.get(&tag).copied();
        known
            .filter(|number| self.members.contains_key(number))
            .unwrap_or(lead)
    }

    /// The PDU with the StatSN of its connection.
    fn numbered(&mut self, pdu: &Pdu, to: usize) -> Pdu {
        let Some(member) = self.members.get_mut(&to) else {
            return pdu.clone();
        };
        if matches!(pdu.header, Header::DataIn(DataIn { flags, .. }) if flags & STATUS == 0) {
            return pdu.clone();
        }
        let number = member.next_stat_sn;
        if is_numbered(pdu) {
            member.next_stat_sn = number.wrapping_add(1);
        }
        with_word(pdu, 24, number)
    }
}

/// Whether a PDU of a target uses its StatSN up.
fn is_numbered(pdu: &Pdu) -> bool {
    match &pdu.header {
        Header::DataIn(data) => data.flags & STATUS != 0,
        Header::ReadyToTransfer(_) => false,
        Header::NopIn(nop) => nop.initiator_task_tag.get() != RESERVED_TAG,
        _ => true,
    }
}

fn word(pdu: &Pdu, at: usize) -> u32 {
    u32::from_be_bytes(pdu.header.as_bytes()[at..at + 4].try_into().unwrap())
}

fn with_word(pdu: &Pdu, at: usize, word: u32) -> Pdu {
    let mut bytes: [u8; 48] = pdu.header.as_bytes().try_into().unwrap();
    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    Pdu {
        header: Header::decode(&bytes),
        ..pdu.clone()
    }
}

/// Whether a login text asks for a discovery session, in which nobody recovers and nobody joins.
pub(super) fn is_discovery(pdu: &Pdu) -> bool {
    let pairs = text::parse(&pdu.data).unwrap_or_default();
    let mut pairs = pairs.iter();
    pairs.any(|(key, value)| key == "SessionType" && value == "Discovery")
}

/// The number that a key of a login text has.
pub(super) fn number(pdu: &Pdu, key: &str) -> Option<u32> {
    let pairs = text::parse(&pdu.data).ok()?;
    let (_, value) = pairs.iter().find(|(name, _)| name == key)?;
    value.parse().ok()
}

/// Gives a key another value than the one it has; whether it had that one.
pub(super) fn rewrite(pdu: &mut Pdu, key: &str, from: &str, to: &str) -> bool {
    let Ok(mut pairs) = text::parse(&pdu.data) else {
        return false;
    };
    let found = pairs
        .iter_mut()
        .find(|(name, value)| name == key && value == from);
    let Some((_, value)) = found else {
        return false;
    };
    to.clone_into(value);
    pdu.data = text::encode(&pairs);
    true
}
