//! What a node tells about its instances.

use std::collections::HashMap;

use anyhow::Result;
use vmthunder_volume::Volume;

use super::guest::{Guest, Now};
use crate::names;
use crate::node::Node;
use crate::portals::urls;
use crate::status::{
    InitiatorStatus, InstanceDetail, InstanceState, InstanceStatus, SnapshotStatus,
};

impl Node {
    /// All instances.
    pub(crate) fn summaries(&self) -> Vec<InstanceStatus> {
        let mut sessions: HashMap<_, usize> = HashMap::new();
        for target in self.target.sessions().into_iter().filter_map(|s| s.target) {
            *sessions.entry(target).or_default() += 1;
        }
        let logged_in = |guest: &Guest| {
            let target = names::instance(&guest.name);
            sessions.get(&target).copied().unwrap_or(0)
        };
        let all = self.guests.all();
        all.iter()
            .map(|guest| self.described(guest, logged_in(guest)))
            .collect()
    }

    /// One instance.
    pub(super) fn summary(&self, guest: &Guest) -> InstanceStatus {
        self.described(guest, self.initiators_of(guest).len())
    }

    /// One instance with all that there is to tell.
    pub(super) fn detail(&self, guest: &Guest) -> Result<InstanceDetail> {
        let initiators = self.initiators_of(guest);
        let instance = self.described(guest, initiators.len());
        let image = self.image(&instance.image).ok();
        let snapshots = self.guests.folder()?.snapshots(&guest.name)?;
        Ok(InstanceDetail {
            target: names::instance(&guest.name).to_string(),
            root: image
                .and_then(|image| image.root)
                .map(|root| root.to_string()),
            snapshots: snapshots
                .into_iter()
                .map(|snapshot| SnapshotStatus {
                    name: snapshot.name,
                    created: snapshot.created,
                    stored_bytes: snapshot.stored,
                })
                .collect(),
            initiators,
            instance,
        })
    }

    fn initiators_of(&self, guest: &Guest) -> Vec<InitiatorStatus> {
        let target = names::instance(&guest.name);
        let sessions = self.target.sessions().into_iter();
        sessions
            .filter(|session| session.target.as_ref() == Some(&target))
            .map(InitiatorStatus::from)
            .collect()
    }

    fn described(&self, guest: &Guest, sessions: usize) -> InstanceStatus {
        let now = guest.now();
        let description = now.description();
        let image = description.map_or_else(String::new, |description| description.image.clone());
        let outage = description.and_then(|description| description.outage);
        let outage = outage.or_else(|| self.image(&image).ok().map(|image| image.outage));
        let mut status = InstanceStatus {
            name: guest.name.clone(),
            quota_bytes: description.and_then(|description| description.quota),
            outage: outage.map(|outage| outage.to_string()),
            image,
            bytes: None,
            stored_bytes: None,
            sessions,
            state: InstanceState::Waiting,
            cause: None,
            local: description
                .and_then(|description| self.locals.as_ref()?.get(description.off?.root))
                .map(|local| local.status()),
            turn_off_failure: guest.failure(),
            urls: Vec::new(),
        };
        match now {
            Now::Served { overlay, .. } => {
                (status.state, status.cause) = match overlay.lacks() {
                    None => (InstanceState::Served, None),
                    Some(lack) => (
                        InstanceState::Full,
                        Some(format!("{lack}: writes that need space are refused")),
                    ),
                };
                status.bytes = Some(overlay.geometry().bytes());
                status.stored_bytes = Some(overlay.stored_bytes());
                status.urls = urls(&self.hosts, &names::instance(&guest.name), 0);
            }
            Now::Waiting { .. } => {
                let cause = "the origin of its image was never reached";
                status.cause = Some(cause.to_owned());
            }
            Now::Broken { cause, .. } => {
                status.state = InstanceState::Broken;
                status.cause = Some(cause);
            }
        }
        status
    }
}
