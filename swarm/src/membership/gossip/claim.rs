//! Who has a name: two nodes that both claim one settle it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Buf as _;

use crate::membership::Event;
use crate::membership::codec::Identity;
use crate::membership::gossip::{CLAIM, Gossip, Now, Phase, SETTLE_EVERY, TAKEN, TAKEN_FOR};

/// Who claims is a member already.
pub(super) const CLAIM_OF_MEMBER: u8 = 1;
/// The claim was passed on to whom it concerns.
pub(super) const CLAIM_PASSED_ON: u8 = 2;

impl Gossip {
    /// Somebody is told of that has our name: we in a former life, or another node.
    pub(super) fn settle(&mut self, now: Now, rival: &Identity) {
        if now.elapsed < self.settled {
            return;
        }
        self.settled = now.elapsed + SETTLE_EVERY;
        if rival.generation >= self.me.generation {
            self.live_again(rival.generation);
        }
        if rival.address != self.me.address {
            self.claim(rival.address);
        }
    }

    pub(super) fn ask_everywhere(&mut self) {
        let places: BTreeSet<SocketAddr> =
            self.seeds.iter().chain(&self.remembered).copied().collect();
        for place in places {
            self.claim(place);
        }
    }

    fn claim(&mut self, to: SocketAddr) {
        let member = matches!(self.phase, Phase::Member { .. });
        let flags = if member { CLAIM_OF_MEMBER } else { 0 };
        let me = self.me.clone();
        self.say(to, &[CLAIM, flags], &me);
    }

    pub(super) fn handle_claim(&mut self, now: Now, claim: &[u8]) {
        let Some((&flags, mut rest)) = claim.split_first() else {
            return;
        };
        let Ok(claimant) = Identity::take(&mut rest) else {
            return;
        };
        if claimant.name != self.me.name {
            if let Phase::Member { protocol, .. } = &self.phase
                && flags & CLAIM_PASSED_ON == 0
            {
                let holds = |holder: &&Identity| {
                    holder.name == claimant.name && holder.address != claimant.address
                };
                let holder = protocol.iter_members().map(foca::Member::id).find(holds);
                if let Some(holder) = holder.map(|holder| holder.address) {
                    self.say(holder, &[CLAIM, flags | CLAIM_PASSED_ON], &claimant);
                }
            }
            return;
        }
        if claimant.born == self.me.born || matches!(self.phase, Phase::Taken { .. }) {
            return;
        }
        let is_member = matches!(self.phase, Phase::Member { .. });
        let claims_as_member = flags & CLAIM_OF_MEMBER != 0;
        let ours = match (is_member, claims_as_member) {
            (true, false) => true,
            (false, true) => false,
            _ => self.me.born < claimant.born,
        };
        if ours {
            if claims_as_member && claimant.generation >= self.me.generation {
                self.live_again(claimant.generation);
            }
            let mut head = vec![TAKEN];
            head.extend_from_slice(&claimant.born.to_be_bytes());
            let me = self.me.clone();
            self.say(claimant.address, &head, &me);
        } else {
            self.yield_to(now, &claimant);
        }
    }

    pub(super) fn handle_taken(&mut self, now: Now, mut answer: &[u8]) {
        let Ok(asked) = answer.try_get_u64() else {
            return;
        };
        let Ok(holder) = Identity::take(&mut answer) else {
            return;
        };
        if asked == self.me.born && holder.name == self.me.name && holder.born != self.me.born {
            self.yield_to(now, &holder);
        }
    }

    /// Is no member as long as another one has the name.
    fn yield_to(&mut self, now: Now, holder: &Identity) {
        if let Phase::Member { protocol, .. } = &self.phase {
            let names = protocol
                .iter_members()
                .map(|member| member.id().name.clone());
            self.out.events.extend(names.map(Event::Left));
        }
        self.out.timers.clear();
        self.phase = Phase::Taken {
            until: now.elapsed + TAKEN_FOR,
        };
        self.out.events.push_back(Event::NameTaken(holder.member()));
    }
}
