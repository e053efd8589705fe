//! The iSCSI names and identities that a node gives to what it serves.

use iscsi_proto::name::IscsiName;
use iscsi_target::NamePattern;
use vmthunder_swarm::forest::NodeName;

/// What all names of this program begin with (RFC 7143 §4.2.7.4).
pub(crate) const PREFIX: &str = "iqn.2026-11.org.vmthunder:";

/// The name of one kind of thing; `name` was checked by [`crate::config::check_name`].
fn named(kind: &str, name: &str) -> IscsiName {
    format!("{PREFIX}{kind}{name}")
        .parse()
        .expect("a checked name of at most 63 characters makes an iSCSI name")
}

/// The target name of an image.
pub(crate) fn image(name: &str) -> IscsiName {
    named("image.", name)
}

/// The target name of an instance.
pub(crate) fn instance(name: &str) -> IscsiName {
    named("instance.", name)
}

/// The name of the target under which a node serves its peers.
pub(crate) fn swarm(node: &str) -> IscsiName {
    named("swarm.", node)
}

/// The name under which a node logs in elsewhere.
pub(crate) fn initiator(node: &str) -> IscsiName {
    named("node.", node)
}

/// The names under which nodes log in.
pub(crate) fn nodes() -> NamePattern {
    format!("{PREFIX}node.*")
        .parse()
        .expect("letters and a star make a pattern")
}

/// The node that logs in under a name.
pub(crate) fn node_of(initiator: &IscsiName) -> Option<NodeName> {
    initiator
        .as_str()
        .strip_prefix(PREFIX)?
        .strip_prefix("node.")?
        .parse()
        .ok()
}

/// The name of a target of files.
pub(crate) fn target(name: &str) -> IscsiName {
    named("", name)
}

/// The default name of a gateway's target: from its first file's name, cut down to what an iSCSI name may hold.
pub(crate) fn gateway(stem: &str) -> IscsiName {
    let mut name: String = stem
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    if name.is_empty() {
        name.push_str("target");
    }
    named("", &name)
}

/// An identity for a logical unit that has none of its own: NAA type 3, locally assigned (SPC-4 §7.8.6.6.4), and the
/// same whenever the parts are the same.
pub(crate) fn designator(parts: &[&str]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut designator = [0; 8];
    hasher.finalize_xof().fill(&mut designator);
    designator[0] = 0x30 | (designator[0] & 0x0f);
    designator
}

/// What tells this machine from others: the identity that systemd gave it, or where there is none its name.
pub(crate) fn machine() -> String {
    match std::fs::read_to_string("/etc/machine-id") {
        Ok(identity) if !identity.trim().is_empty() => identity.trim().to_owned(),
        _ => {
            let name = rustix::system::uname();
            name.nodename().to_string_lossy().into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_users_were_told() {
        assert_eq!(
            image("debian").as_str(),
            "iqn.2026-11.org.vmthunder:image.debian"
        );
        assert_eq!(
            instance("vm-1").as_str(),
            "iqn.2026-11.org.vmthunder:instance.vm-1"
        );
        assert_eq!(
            gateway("My Disk_1").as_str(),
            "iqn.2026-11.org.vmthunder:my-disk-1"
        );
        assert_eq!(node_of(&initiator("n1")).unwrap().as_str(), "n1");
        assert_eq!(node_of(&image("n1")), None);
        assert_eq!(gateway("").as_str(), "iqn.2026-11.org.vmthunder:target");
    }

    #[test]
    fn a_designator_is_locally_assigned_and_stable() {
        let one = designator(&["a", "b"]);
        assert_eq!(one[0] >> 4, 3);
        assert_eq!(one, designator(&["a", "b"]));
        assert_ne!(one, designator(&["ab", ""]));
    }
}
