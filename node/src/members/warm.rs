//! What a node asks of whom, kept up to date while members come and go.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::task::AbortHandle;
use vmthunder_swarm::forest::{Forest, NodeName, Parent, Tree};
use vmthunder_swarm::membership::{ImageTag, Member};
use vmthunder_swarm::peer::{PeerAddress, PeerSessions, PeerVolume};
use vmthunder_volume::Volume as _;

use super::Members;
use crate::export::Fetched;
use crate::names;

/// How often it is looked for what was not there: a peer, or its copy of an image.
const AGAIN: Duration = Duration::from_secs(1);

/// Peers that are looked for at once.
const AT_ONCE: usize = 16;

/// Keeps sessions to those that this node would ask for an image that both are attached to, used or not: a storm finds
/// them open.
pub(crate) async fn keep_sessions(
    me: NodeName,
    members: Arc<Members>,
    sessions: Arc<PeerSessions>,
) {
    let mut changes = members.changes();
    loop {
        changes.borrow_and_update();
        let own = members.own.borrow().clone();
        let mut present = members.present();
        present.retain(|member| own.meet(&member.images));
        let parents = parents(&me, &present);
        let peers = present
            .iter()
            .filter(|member| parents.contains(&member.name));
        let peers: Vec<PeerAddress> = peers.map(address).collect();
        sessions.keep(&peers).await;
        // Nobody is left to tell of changes when the node ends.
        let _ = tokio::time::timeout(AGAIN, changes.changed()).await;
    }
}

/// Shows an image, or its manifest, who is attached to it, until that is aborted.
pub(crate) fn keep_view(
    me: &NodeName,
    members: &Arc<Members>,
    sessions: &Arc<PeerSessions>,
    cache: &Fetched,
    image: ImageTag,
    designator: [u8; 8],
) -> AbortHandle {
    let (me, members, sessions) = (me.clone(), Arc::clone(members), Arc::clone(sessions));
    let (cache, geometry) = (cache.clone(), cache.geometry());
    let mut changes = members.changes();
    let show = move || {
        let mut present = members.present();
        present.retain(|member| member.images.contain(image));
        let parents = parents(&me, &present);
        let volume = |member: &Member| {
            let address = address(member);
            let volume = PeerVolume::new(Arc::clone(&sessions), address, designator, geometry);
            (member.name.clone(), volume)
        };
        let volumes: Vec<_> = present.iter().map(volume).collect();
        let asked = volumes.iter().filter(|(name, _)| parents.contains(name));
        let asked: Vec<PeerVolume> = asked.map(|(_, volume)| volume.clone()).collect();
        cache.below().set_members(volumes);
        asked
    };
    let mut asked = show();
    tokio::spawn(async move {
        loop {
            if changes.has_changed().unwrap_or_default() {
                changes.borrow_and_update();
                asked = show();
            }
            let find = futures::stream::iter(asked.iter().map(PeerVolume::find));
            find.buffer_unordered(AT_ONCE).collect::<()>().await;
            // Nobody is left to tell of changes when the node ends.
            let _ = tokio::time::timeout(AGAIN, changes.changed()).await;
        }
    })
    .abort_handle()
}

/// Whom a node asks in one tree or another.
fn parents(me: &NodeName, members: &[Member]) -> HashSet<NodeName> {
    let mut names: Vec<NodeName> = members.iter().map(|member| member.name.clone()).collect();
    names.push(me.clone());
    let forest = Forest::new(&names);
    let parents = Tree::all().filter_map(|tree| match forest.parent(me, tree, &[]) {
        Parent::Node(name) => Some(name),
        Parent::Origin => None,
    });
    parents.collect()
}

fn address(member: &Member) -> PeerAddress {
    PeerAddress {
        node: member.name.clone(),
        portal: member.address.clone(),
        target_name: names::swarm(member.name.as_str()).to_string(),
    }
}
