//! Names, networks and redirections.

use iscsi_target::{AccessRules, Export, Redirect, TargetOptions};

use crate::harness::{DISK, Initiator, World, discovery, export, normal, unit};

fn only(initiators: &str) -> AccessRules {
    AccessRules {
        initiators: vec![initiators.parse().expect("a pattern")],
        ..AccessRules::default()
    }
}

async fn status(initiator: &mut Initiator, keys: &str) -> [u8; 2] {
    let response = initiator.log_in(1, keys).await;
    [response.header[36], response.header[37]]
}

/// RFC 7143 §11.13.5: the initiator is not allowed access to the given target. It does not find the target either.
#[tokio::test]
async fn who_is_not_in_the_list_neither_gets_in_nor_finds_the_target() {
    let world = World::with_access(TargetOptions::default(), only("*:FRIEND-?")).await;
    let open = Export {
        name: "iqn.2001-04.com.example:open".parse().unwrap(),
        ..Export::new(DISK.parse().unwrap(), vec![unit(0, &world.volume)])
    };
    world.target.export(open).unwrap();
    let mut denied = world.connect().await;
    assert_eq!(status(&mut denied, &normal(DISK)).await, [2, 2]);
    assert!(denied.is_closed().await);
    let friend = |keys: String| keys.replace(":host", ":friend-7");
    let mut admitted = world.connect().await;
    assert_eq!(status(&mut admitted, &friend(normal(DISK))).await, [0, 0]);
    assert!(admitted.send_targets("").await.contains(DISK));
    let (mut stranger, mut known) = (world.connect().await, world.connect().await);
    status(&mut stranger, &discovery()).await;
    status(&mut known, &friend(discovery())).await;
    let (hidden, shown) = (
        stranger.send_targets("All").await,
        known.send_targets("All").await,
    );
    assert!(!hidden.contains(DISK) && hidden.contains("example:open"));
    assert!(shown.contains(DISK) && shown.contains("example:open"));
    assert_eq!(stranger.send_targets(DISK).await, "");
    let stats = world.target.stats();
    assert_eq!((stats.logins_denied, stats.logins_refused), (1, 1));
}

#[tokio::test]
async fn a_network_is_let_in_and_others_are_not() {
    let rules = AccessRules {
        networks: vec!["127.0.0.2".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        ..AccessRules::default()
    };
    let world = World::with_access(TargetOptions::default(), rules).await;
    let mut near = Initiator::connect_from("127.0.0.2", &world.address).await;
    assert_eq!(status(&mut near, &normal(DISK)).await, [0, 0]);
    let mut far = Initiator::connect_from("127.0.0.3", &world.address).await;
    assert_eq!(status(&mut far, &normal(DISK)).await, [2, 2]);
    for (from, finds) in [("127.0.0.2", true), ("127.0.0.3", false)] {
        let mut asking = Initiator::connect_from(from, &world.address).await;
        assert_eq!(status(&mut asking, &discovery()).await, [0, 0]);
        assert_eq!(asking.send_targets("All").await.contains(DISK), finds);
    }
}

/// RFC 7143 §11.13.5: the target does not support this type of session from this initiator.
#[tokio::test]
async fn discovery_has_rules_of_its_own() {
    let options = TargetOptions {
        discovery: only("*:friend"),
        ..TargetOptions::default()
    };
    let world = World::new(options).await;
    let mut denied = world.connect().await;
    assert_eq!(status(&mut denied, &discovery()).await, [2, 9]);
    assert!(denied.is_closed().await);
    let mut friend = world.connect().await;
    let keys = discovery().replace(":host", ":friend");
    assert_eq!(status(&mut friend, &keys).await, [0, 0]);
    let mut user = world.connect().await;
    assert_eq!(status(&mut user, &normal(DISK)).await, [0, 0]);
}

/// RFC 7143 §11.13.5 and §13.8: the new address, without a portal group.
#[tokio::test]
async fn an_initiator_is_sent_elsewhere() {
    let redirect = |initiators: &str, address: &str, permanent, after_authentication| Redirect {
        initiators: vec![initiators.parse().unwrap()],
        address: address.parse().unwrap(),
        permanent,
        after_authentication,
    };
    let rules = AccessRules {
        redirects: vec![
            redirect("*:moved", "10.0.0.7:3261", false, false),
            redirect("*:gone", "[2001:db8::7]", true, true),
        ],
        ..AccessRules::default()
    };
    let world = World::with_access(TargetOptions::default(), rules).await;
    for (name, status, address) in [
        (":moved", [1, 1], "10.0.0.7:3261"),
        (":gone", [1, 2], "[2001:db8::7]"),
    ] {
        let mut sent = world.connect().await;
        let keys = normal(DISK).replace(":host", name);
        let response = sent.log_in(1, &keys).await;
        assert_eq!(response.header[36..38], status);
        let text = String::from_utf8(response.data).unwrap();
        let told = text
            .split('\0')
            .find_map(|pair| pair.strip_prefix("TargetAddress="));
        assert_eq!(told, Some(address));
        assert!(sent.is_closed().await);
        // What there is, it may ask here.
        let mut asking = world.connect().await;
        let keys = discovery().replace(":host", name);
        assert_eq!(asking.log_in(1, &keys).await.header[36..38], [0, 0]);
    }
    let mut other = world.connect().await;
    assert_eq!(status(&mut other, &normal(DISK)).await, [0, 0]);
    let stats = world.target.stats();
    assert_eq!((stats.logins_redirected, stats.logins_refused), (2, 0));
}

/// A portal that sends initiators to itself would send them for ever.
#[tokio::test]
async fn nobody_is_sent_to_where_it_is() {
    let world = World::new(TargetOptions::default()).await;
    let here = Redirect {
        initiators: Vec::new(),
        address: world.address.parse().unwrap(),
        permanent: false,
        after_authentication: false,
    };
    let mut moved = export(&world.volume, &world.other);
    moved.name = "iqn.2001-04.com.example:moved".parse().unwrap();
    moved.access.redirects = vec![here];
    world.target.export(moved).unwrap();
    let mut initiator = world.connect().await;
    let keys = normal("iqn.2001-04.com.example:moved");
    assert_eq!(status(&mut initiator, &keys).await, [0, 0]);
}
