//! Who is let in (RFC 7143 §6.3): first what the initiator has to prove, then, once it has, whether there is a seat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iscsi_proto::login::{Admission, Authentication, ChapPolicy, Identity, LoginStatus, Violation};
use iscsi_proto::name::IscsiName;
use iscsi_proto::params::SessionType;
use iscsi_proto::session::CloseReason;
use tracing::warn;
use vmthunder_volume::Volume;

use super::Nexus;
use crate::access::{AccessRules, ChapRules, Redirect};
use crate::exports::Served;
use crate::metrics::Counters;
use crate::sessions::{Guest, Seat};

/// How long a login waits for the session that it reinstates to end.
const REINSTATEMENT: Duration = Duration::from_secs(10);

/// What a login waits for.
#[derive(Debug)]
pub(super) enum Pause<V> {
    /// Its initiator failed to prove itself before.
    Doubt {
        until: Instant,
        authentication: Box<Authentication>,
    },
    /// The sessions that it reinstates come to their end: their writes must not land on top of the new one's.
    Predecessors { until: Instant, seat: Box<Seat<V>> },
}

/// Waits until the login can go on; pends for ever if it waits for nothing.
pub(super) async fn over<V>(pause: Option<&Pause<V>>) {
    match pause {
        None => std::future::pending().await,
        Some(Pause::Doubt { until, .. }) => tokio::time::sleep_until((*until).into()).await,
        Some(Pause::Predecessors { until, seat }) => {
            let gone = async {
                for predecessor in &seat.predecessors {
                    predecessor.cancelled().await;
                }
            };
            let _ = tokio::time::timeout_at((*until).into(), gone).await;
        }
    }
}

impl<V: Volume> Nexus<V> {
    /// The names are known: asks for what the rules of the export, or of discovery, want to be proven.
    pub(super) fn authenticate(&mut self, identity: Identity) {
        let target = Arc::clone(&self.target);
        let export = match target.exported(&identity) {
            Ok(export) => export,
            Err(status) => {
                return self.decline(&identity, status);
            }
        };
        let rules = rules(&target.options.discovery, export.as_deref());
        let from = self.peer.ip();
        let initiator = &identity.initiator_name;
        let chap = rules.chap_of(initiator);
        let admitted = rules.admit(initiator, from).then_some(chap);
        let Some(Ok(chap)) = admitted else {
            Counters::add(&target.counters.logins_denied, 1);
            let status = match identity.session_type {
                SessionType::Normal => LoginStatus::AUTHORIZATION_FAILURE,
                // There is no target that it could be denied (RFC 7143 §11.13.5).
                SessionType::Discovery => LoginStatus::SESSION_TYPE_NOT_SUPPORTED,
            };
            return self.decline(&identity, status);
        };
        if let Some(redirect) = self.redirection(rules, &identity, false) {
            return self.send_elsewhere(redirect);
        }
        if identity.tsih != 0 {
            let guest = Guest::new(&identity, self.peer, None).at(self.local);
            match target.sessions.continued(&guest) {
                Ok(params) => self.session.continue_session(params),
                Err(status) => {
                    return self.decline(&identity, status);
                }
            }
        }
        let Ok(chap) = chap.map(policy).transpose() else {
            return self.decline(&identity, LoginStatus::TARGET_ERROR);
        };
        let secret = chap.is_some();
        let authentication = Authentication {
            portal_group_tag: target.options.portal_group_tag,
            none: !secret,
            chap,
        };
        if !secret {
            return self.session.authenticate(authentication);
        }
        let now = Instant::now();
        match target.failures.admit(now, from, &identity.initiator_name) {
            Ok(until) if until <= now => self.session.authenticate(authentication),
            Ok(until) => {
                Counters::add(&target.counters.logins_delayed, 1);
                let authentication = Box::new(authentication);
                self.pause = Some(Pause::Doubt {
                    until,
                    authentication,
                });
            }
            Err(_) => {
                Counters::add(&target.counters.logins_delayed, 1);
                return self.decline(&identity, LoginStatus::SERVICE_UNAVAILABLE);
            }
        }
        self.unproven = Some(Box::new(identity));
    }

    /// The initiator has proven what it had to: takes a seat for it.
    pub(super) fn admit(&mut self, identity: &Identity, account: Option<String>) {
        let target = Arc::clone(&self.target);
        let initiator = &identity.initiator_name;
        if self.unproven.take().is_some() {
            target.failures.succeeded(self.peer.ip(), initiator);
        }
        // The export may have been withdrawn since the login began.
        let export = match target.exported(identity) {
            Ok(export) => export,
            Err(status) => return self.decline(identity, status),
        };
        let rules = rules(&target.options.discovery, export.as_deref());
        if let Some(redirect) = self.redirection(rules, identity, true) {
            return self.send_elsewhere(redirect);
        }
        let guest = Guest::new(identity, self.peer, account).at(self.local);
        let seat = match target.sessions.enter(guest, export) {
            Ok(seat) => seat,
            Err(status) => return self.decline(identity, status),
        };
        // Whoever withdrew the export meanwhile may have missed this session, and the name may be another export's now.
        let own = seat.asker.as_ref().map(|asker| &asker.export);
        let same = match (target.exported(identity), own) {
            (Ok(Some(export)), Some(own)) => Arc::ptr_eq(&export, own),
            (Ok(None), None) => true,
            _ => false,
        };
        if !same {
            return self.decline(identity, LoginStatus::TARGET_REMOVED);
        }
        if seat.predecessors.is_empty() {
            return self.sit_down(seat);
        }
        self.pause = Some(Pause::Predecessors {
            until: Instant::now() + REINSTATEMENT,
            seat: Box::new(seat),
        });
    }

    /// What the login waited for is there, or does not come.
    pub(super) fn resume(&mut self) {
        match self.pause.take() {
            None => {}
            Some(Pause::Doubt { authentication, .. }) => self.session.authenticate(*authentication),
            Some(Pause::Predecessors { seat, .. }) => {
                if seat.predecessors.iter().all(|gone| gone.is_cancelled()) {
                    self.sit_down(*seat);
                } else {
                    let initiator = seat.initiator.clone();
                    let wanted = seat.asker.as_ref();
                    let wanted = wanted.map(|asker| asker.export.port.target.clone());
                    self.turn_away(
                        &initiator,
                        wanted.as_ref(),
                        LoginStatus::SERVICE_UNAVAILABLE,
                    );
                }
            }
        }
    }

    /// Counts a login that was not what it claimed to be.
    pub(super) fn count_failure(&mut self, reason: CloseReason) {
        let CloseReason::LoginFailed { status, violation } = reason else {
            return;
        };
        if status != LoginStatus::AUTHENTICATION_FAILURE {
            return;
        }
        Counters::add(&self.target.counters.authentication_failures, 1);
        let Some(identity) = &self.unproven else {
            return;
        };
        // Who has no secret at all guesses none.
        if matches!(
            violation,
            Some(Violation::Credentials | Violation::ReflectedChallenge)
        ) {
            let (now, from) = (Instant::now(), self.peer.ip());
            self.target
                .failures
                .failed(now, from, &identity.initiator_name);
        }
    }

    fn sit_down(&mut self, seat: Seat<V>) {
        Counters::add(&self.target.counters.logins, 1);
        self.session.admit(Admission {
            tsih: seat.tsih,
            command_window: self.window,
        });
        self.seat = Some(seat);
    }

    fn redirection<'a>(
        &self,
        rules: &'a AccessRules,
        identity: &Identity,
        authenticated: bool,
    ) -> Option<&'a Redirect> {
        let normal = identity.session_type == SessionType::Normal;
        let redirect = rules.redirection(&identity.initiator_name, self.local, authenticated);
        redirect.filter(|_| normal)
    }

    fn send_elsewhere(&mut self, redirect: &Redirect) {
        Counters::add(&self.target.counters.logins_redirected, 1);
        self.session
            .redirect(redirect.address.as_str(), redirect.permanent);
    }

    fn decline(&mut self, identity: &Identity, status: LoginStatus) {
        self.turn_away(
            &identity.initiator_name,
            identity.target_name.as_ref(),
            status,
        );
    }

    fn turn_away(
        &mut self,
        initiator: &IscsiName,
        wanted: Option<&IscsiName>,
        status: LoginStatus,
    ) {
        Counters::add(&self.target.counters.logins_refused, 1);
        if let Some(unsaid) = self.target.refusals.may_say(Instant::now()) {
            let wanted = wanted.map(tracing::field::display);
            warn!(peer = %self.peer, %initiator, wanted, %status, unsaid, "login refused");
        }
        self.session.refuse(status);
    }
}

fn rules<'a, V>(discovery: &'a AccessRules, export: Option<&'a Served<V>>) -> &'a AccessRules {
    export.map_or(discovery, |export| &export.access)
}

/// The rules with an identifier and a challenge for this login alone.
fn policy(rules: ChapRules) -> Result<ChapPolicy, getrandom::Error> {
    let (mut identifier, mut challenge) = ([0], vec![0; ChapPolicy::CHALLENGE_BYTES]);
    getrandom::fill(&mut identifier)?;
    getrandom::fill(&mut challenge)?;
    let [identifier] = identifier;
    Ok(ChapPolicy {
        accounts: rules.accounts().to_vec(),
        mutual: rules.mutual().cloned(),
        algorithms: rules.algorithms().to_vec(),
        identifier,
        challenge,
    })
}
