//! Initiators that stumble: a sound one, and behind it a saboteur that rewrites, swallows and invents PDUs.

#[allow(dead_code, reason = "written for broken targets, too")]
#[path = "../broken/edit.rs"]
pub(crate) mod edit;
pub(crate) mod faults;
pub(crate) mod lawful;
#[allow(dead_code, reason = "written for broken targets, too")]
#[path = "../broken/proxy.rs"]
mod proxy;
mod sound;

use std::time::Duration;

use iscsi_conformance::Judged;
use iscsi_conformance::initiator::{Drill, Listener, Options, Visitor, run};
use iscsi_proto::wire::Pdu;

pub(crate) use proxy::{Lane, Proxy};

/// One broken rule.
pub(crate) struct Fault {
    /// What the initiator does wrong, in a word or three.
    pub(crate) name: &'static str,
    /// The drill that has to notice.
    pub(crate) trips: &'static str,
    /// Makes the saboteur.
    pub(crate) saboteur: fn() -> Saboteur,
}

/// Decides about everything that passes, on all connections of one initiator.
pub(crate) type Saboteur = Box<dyn FnMut(Seen<'_>, &mut Lane) -> Act + Send>;

/// What passes.
pub(crate) enum Seen<'a> {
    /// A PDU from the initiator, digests and padding taken off, however wrong they were.
    Request(&'a Pdu),
    /// A PDU from the target.
    Response(&'a Pdu),
    /// The target has closed the connection.
    TargetClosed,
}

/// What becomes of it.
pub(crate) enum Act {
    /// It goes on as it is.
    Pass,
    /// These go on in its place; none at all swallows it.
    Replace(Vec<Pdu>),
}

/// Has a sound initiator judged by a drill, with a saboteur between if there is a fault.
pub(crate) async fn judged(drill: &'static Drill, fault: Option<fn() -> Saboteur>) -> Judged {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let hurried = fault.is_some();
    let visitor = Visitor::Function(Box::new(move |invitation| {
        Box::pin(async move {
            let portal = invitation.portal.parse().unwrap();
            let proxy = match fault {
                Some(saboteur) => Some(Proxy::start(portal, saboteur()).await),
                None => None,
            };
            let portal = proxy.as_ref().map_or(portal, |proxy| proxy.address);
            let mut visits = if hurried && KNOCKS.contains(&drill.rule.name) {
                5
            } else {
                1
            };
            loop {
                let visit = sound::visit(portal, &invitation, drill.rule.name, hurried).await;
                visits -= 1;
                if visits == 0 {
                    return visit;
                }
            }
        })
    }));
    let mut options = Options::new(visitor);
    if hurried {
        options.patience = Duration::from_millis(1500);
        options.limit = Duration::from_secs(10);
    }
    let mut report = run(&listener, &options, &[drill], |_| {}).await;
    report.judged.pop().unwrap()
}

/// Has a sound initiator judged whose program does not end when it has logged out.
pub(crate) async fn judged_lingering(drill: &'static Drill) -> Judged {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let visitor = Visitor::Function(Box::new(move |invitation| {
        Box::pin(async move {
            let portal = invitation.portal.parse().unwrap();
            sound::visit(portal, &invitation, drill.rule.name, false).await?;
            std::future::pending().await
        })
    }));
    let mut options = Options::new(visitor);
    options.limit = Duration::from_secs(10);
    let mut report = run(&listener, &options, &[drill], |_| {}).await;
    report.judged.pop().unwrap()
}

/// Has a sound initiator with many reads under way judged by a drill.
pub(crate) async fn judged_in_haste(drill: &'static Drill) -> Judged {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let visitor = Visitor::Function(Box::new(move |invitation| {
        Box::pin(async move {
            let portal = invitation.portal.parse().unwrap();
            sound::visit_in_haste(portal, &invitation, drill.rule.name).await
        })
    }));
    let mut report = run(&listener, &Options::new(visitor), &[drill], |_| {}).await;
    report.judged.pop().unwrap()
}

/// Drills for whose faults the initiator is told to come again and again.
const KNOCKS: &[&str] = &["login.refused.again"];
