//! What a target knows of a login once it knows the names.

use crate::login::chap::Step;
use crate::login::ltds::Outgoing;
use crate::login::negotiate::Negotiation;
use crate::login::offer::keepable_alias;
use crate::login::security::Security;
use crate::login::stage::Stage;
use crate::login::{Identity, Violation};
use crate::params::Key;

/// What is known once the names are.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) identity: Identity,
    pub(crate) tsih: u16,
    /// The driver has let the initiator in.
    pub(crate) admitted: bool,
    pub(crate) security: Security,
    pub(crate) stage: Stage,
    pub(crate) negotiation: Negotiation,
    pub(crate) outgoing: Outgoing,
    /// The stage that was granted to the initiator and waits for the end of a long response.
    pub(crate) granted: Option<Stage>,
    pub(crate) declared_segment: Option<u32>,
}

impl Talk {
    /// Takes the text of a request; gives the answers.
    pub(crate) fn take(
        &mut self,
        pairs: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Violation> {
        let mut answers = self.negotiation.receive(pairs, self.stage)?;
        if self.stage == Stage::Security {
            answers.extend(self.take_security()?);
        }
        if let Some(alias) = self.negotiation.declared(Key::InitiatorAlias) {
            self.identity.initiator_alias = keepable_alias(alias);
        }
        Ok(answers)
    }

    /// The method, once it is chosen, and then its steps, each of which has to come when it is due.
    fn take_security(&mut self) -> Result<Vec<(String, String)>, Violation> {
        let was_open = self.security.is_open();
        if was_open && self.negotiation.has_seen(Key::AuthMethod) {
            let method = self.negotiation.choice(Key::AuthMethod);
            self.security
                .settle(method.ok_or(Violation::Authentication)?);
        }
        let step = Step::new(self.negotiation.take_authentication());
        if was_open && step.is_empty() {
            return Ok(Vec::new());
        }
        self.security.take(step)
    }
}
