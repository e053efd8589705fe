//! Nodes that know each other through etcd, as Debian packages it: coming, going, dying, and etcd itself doing so.

mod server;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::server::{Etcd, base64};
use crate::bounded;
use crate::foreign::bench::{Bench, DISK_BYTES, IMAGE_BYTES, LIMIT, Served, expect};
use crate::foreign::{Check, qemu};
use crate::nodes::{self, Node};
use crate::secret::private_file;
use crate::soak::proxy::Proxy;

const PROGRAMS: &[&str] = &["etcd", "qemu-img"];

pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "etcd-members",
        programs: PROGRAMS,
        run: members,
    },
    Check {
        name: "etcd-second-holder",
        programs: PROGRAMS,
        run: second_holder,
    },
    Check {
        name: "etcd-gone-in-a-storm",
        programs: PROGRAMS,
        run: gone_in_a_storm,
    },
    Check {
        name: "etcd-comes-back-empty",
        programs: PROGRAMS,
        run: comes_back_empty,
    },
    Check {
        name: "etcd-cut-off-and-compacted",
        programs: PROGRAMS,
        run: cut_off_and_compacted,
    },
    Check {
        name: "etcd-lies",
        programs: PROGRAMS,
        run: lies,
    },
    Check {
        name: "etcd-user",
        programs: PROGRAMS,
        run: user,
    },
    Check {
        name: "etcd-tls",
        programs: &["etcd", "qemu-img", "openssl"],
        run: tls,
    },
];

/// What keys of members begin with.
const MEMBERS: &str = "/vmthunder/members/";

/// Longer than a lease of a node, and than it is missed after that.
const LONG: Duration = Duration::from_secs(25);

/// Nodes with one image, etcd, and the origin.
struct Fleet<'a> {
    bench: &'a Bench,
    folder: TempDir,
    origin: Served,
    image: String,
    /// What `[swarm]` says besides the key.
    swarm: String,
    addresses: Vec<String>,
}

impl<'a> Fleet<'a> {
    fn new(bench: &'a Bench, nodes: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let origin = bench.serve()?;
        let manifest = folder.path().join("disk.manifest");
        let mut import = bench.vmthunder();
        import.args(["image", "import", &origin.url]);
        bounded::succeed(import.arg("--manifest").arg(&manifest), LIMIT)?;
        let image = format!(
            "[[image]]\nname = \"disk\"\norigin = \"{}\"\nmanifest = \"{}\"\n",
            origin.url,
            manifest.display()
        );
        Ok(Self {
            bench,
            folder,
            origin,
            image,
            swarm: String::new(),
            addresses: nodes::free_addresses(nodes)?,
        })
    }

    fn etcd(&mut self) -> Result<Etcd> {
        let etcd = Etcd::start(self.folder.path())?;
        self.swarm = format!("etcd = [\"{}\"]\n", etcd.url());
        Ok(etcd)
    }

    /// The file of a node's configuration; nodes are counted from 1.
    fn config(&self, file: &str, number: usize, address: &str) -> Result<String> {
        let path = self.folder.path();
        let text = nodes::config(&format!("node-{number}"), path, address, &self.image, &[])?;
        let data = format!("data = \"{}\"", path.join(file).display());
        let own = format!(
            "data = \"{}\"",
            path.join(format!("node-{number}")).display()
        );
        let key = nodes::swarm_key_file(path)?;
        let key = key.display();
        Ok(text.replacen(&own, &data, 1)
            + &format!("\n[swarm]\nkey-file = \"{key}\"\n{}", self.swarm))
    }

    fn start(&self, number: usize) -> Result<Node> {
        self.start_at(number, &self.addresses[number - 1])
    }

    fn start_at(&self, number: usize, address: &str) -> Result<Node> {
        let name = format!("node-{number}");
        let config = self.config(&name, number, address)?;
        Node::start(&self.bench.vmthunder, self.folder.path(), &name, &config, 1)
    }

    fn start_all(&self) -> Result<Vec<Node>> {
        let nodes = (1..=self.addresses.len()).map(|number| self.start(number));
        let nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
        for (at, node) in nodes.iter().enumerate() {
            for other in (1..=nodes.len()).filter(|other| *other != at + 1) {
                let known = until(node, other, "alive", LIMIT)?;
                ensure!(known["address"] == self.addresses[other - 1], "{known}");
                ensure!(known["through"] == "etcd", "{known}");
            }
        }
        Ok(nodes)
    }

    /// Guests of these nodes read all, at once, and what they read is right.
    fn read(&self, nodes: &mut [Node], round: u32) -> Result<()> {
        let urls = nodes.iter_mut().enumerate();
        let urls = urls
            .map(|(at, node)| node.create_instance(&format!("vm-{round}-{at}"), "disk"))
            .collect::<Result<Vec<_>>>()?;
        let disk: &PathBuf = &self.origin.disk;
        thread::scope(|scope| {
            let guests = urls
                .iter()
                .map(|url| scope.spawn(move || qemu::compare_with(disk, url)));
            let guests: Vec<_> = guests.collect();
            let mut guests = guests.into_iter();
            guests
                .try_for_each(|guest| guest.join().map_err(|_| anyhow!("a guest's thread died"))?)
        })
    }

    fn stop(self, nodes: Vec<Node>) -> Result<()> {
        nodes.into_iter().try_for_each(|node| node.daemon.stop())?;
        self.origin.daemon.stop()
    }
}

/// What a node knows of another.
fn known(node: &Node, number: usize) -> Result<Option<Value>> {
    let members: Vec<Value> = serde_json::from_str(&node.ask(&["swarm", "members", "--json"])?)?;
    let name = format!("node-{number}");
    Ok(members.into_iter().find(|member| member["name"] == name))
}

/// Waits until a node knows another so; the states on the way there.
fn until_by_way_of(
    node: &Node,
    number: usize,
    state: &str,
    limit: Duration,
) -> Result<(Value, Vec<Value>)> {
    let (deadline, mut passed) = (Instant::now() + limit, Vec::new());
    loop {
        let found = known(node, number)?;
        if let Some(found) = &found
            && found["state"] == state
        {
            return Ok((found.clone(), passed));
        }
        ensure!(
            Instant::now() < deadline,
            "node-{number} is not {state}: {found:?}, after {passed:?}"
        );
        let now = found.map_or(Value::Null, |found| found["state"].clone());
        if passed.last() != Some(&now) {
            passed.push(now);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn until(node: &Node, number: usize, state: &str, limit: Duration) -> Result<Value> {
    Ok(until_by_way_of(node, number, state, limit)?.0)
}

/// Waits until a node knows which images another one is attached to.
fn until_attached(node: &Node, number: usize, images: &Value) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let known = until(node, number, "alive", LIMIT)?;
        if known["images"] == *images {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not {images}: {known}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a node says so of etcd.
fn until_etcd(node: &Node, answers: bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = node.status()?;
        if status["swarm"]["etcd"]["answers"] == answers {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not yet {answers}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// For a while no node gives another one up.
fn nobody_is_given_up(nodes: &[Node], time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for (at, node) in nodes.iter().enumerate() {
            for other in (1..=nodes.len()).filter(|other| *other != at + 1) {
                let known = known(node, other)?.context("it was known")?;
                ensure!(
                    known["state"] == "alive" || known["state"] == "suspect",
                    "{known}"
                );
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn all_alive(nodes: &[Node]) -> Result<()> {
    for (at, node) in nodes.iter().enumerate() {
        until_etcd(node, true)?;
        for other in (1..=nodes.len()).filter(|other| *other != at + 1) {
            until(node, other, "alive", LIMIT)?;
        }
    }
    Ok(())
}

/// Nodes join, share, die, come back elsewhere, and leave.
fn members(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 3)?;
    let etcd = fleet.etcd()?;
    let mut nodes = fleet.start_all()?;
    until_attached(&nodes[0], 2, &json!(["disk"]))?;
    fleet.read(&mut nodes, 1)?;
    let (mut origin, mut peers) = (0, 0);
    for node in &nodes {
        let sources = node.sources()?;
        println!("{sources}");
        (origin, peers) = (origin + sources.origin, peers + sources.peers);
    }
    ensure!(
        peers > 0 && origin < 2 * u64::try_from(DISK_BYTES)?,
        "{origin} from the origin, {peers} from peers"
    );

    let mut third = nodes.pop().context("three nodes")?;
    third.daemon.kill()?;
    let before = until(&nodes[0], 3, "alive", LIMIT)?["generation"].as_u64();
    let (_, passed) = until_by_way_of(&nodes[0], 3, "left", LIMIT)?;
    ensure!(
        passed == ["alive", "suspect"],
        "a node that died was {passed:?}"
    );
    ensure!(
        etcd.get(&format!("{MEMBERS}node-3"))?.is_none(),
        "it is written down without a lease"
    );

    let elsewhere = nodes::free_addresses(1)?.remove(0);
    let mut third = fleet.start_at(3, &elsewhere)?;
    // Its guest's disk is there again, too.
    third.daemon.ready(1, LIMIT)?;
    let back = until(&nodes[0], 3, "alive", LIMIT)?;
    ensure!(
        back["address"] == elsewhere && back["generation"].as_u64() > before,
        "{back}"
    );
    until(&third, 2, "alive", LIMIT)?;
    let table = nodes[0].ask(&["swarm", "members"])?;
    expect(&table, "node-3")?;
    expect(&table, "etcd")?;

    third.daemon.stop()?;
    let (_, passed) = until_by_way_of(&nodes[0], 3, "left", LIMIT)?;
    ensure!(
        !passed.contains(&json!("suspect")),
        "a node that left in order was {passed:?}"
    );
    fleet.stop(nodes)
}

/// A second living node of a name does not start, at once or after a crash of the first.
fn second_holder(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 2)?;
    let _etcd = fleet.etcd()?;
    let mut nodes = fleet.start_all()?;
    let elsewhere = nodes::free_addresses(1)?.remove(0);
    let config = fleet.config("other", 2, &elsewhere)?;
    let path = fleet.folder.path().join("other.toml");
    std::fs::write(&path, config)?;
    let mut command = bench.vmthunder();
    let refused = bounded::until(command.arg("serve").arg("--config").arg(&path), LIMIT)?;
    ensure!(
        refused.status.is_some_and(|status| !status.success()),
        "{}",
        refused.ending()
    );
    expect(
        &refused.stderr,
        &format!(
            "another node named `node-2` lives at {}",
            fleet.addresses[1]
        ),
    )?;
    let known = until(&nodes[0], 2, "alive", LIMIT)?;
    ensure!(known["address"] == fleet.addresses[1], "{known}");

    // One that comes back where it died has its name at once, elsewhere when the lease of its former life is over.
    let mut second = nodes.pop().context("two nodes")?;
    second.daemon.kill()?;
    let mut second = fleet.start(2)?;
    until(&second, 1, "alive", LIMIT)?;
    second.daemon.kill()?;
    let second = fleet.start_at(2, &elsewhere)?;
    let deadline = Instant::now() + LIMIT;
    while until(&nodes[0], 2, "alive", LIMIT)?["address"] != elsewhere {
        ensure!(Instant::now() < deadline, "it is not known at {elsewhere}");
        thread::sleep(Duration::from_millis(50));
    }
    nodes.push(second);
    fleet.stop(nodes)
}

/// etcd dies while guests read: they go on, and so do the nodes with whom they know.
fn gone_in_a_storm(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 3)?;
    let mut etcd = fleet.etcd()?;
    let mut nodes = fleet.start_all()?;
    let urls = nodes
        .iter_mut()
        .map(|node| node.create_instance("vm", "disk"));
    let urls = urls.collect::<Result<Vec<_>>>()?;
    let disk: &PathBuf = &fleet.origin.disk;
    thread::scope(|scope| {
        let guests = urls
            .iter()
            .map(|url| scope.spawn(move || qemu::compare_with(disk, url)));
        let guests: Vec<_> = guests.collect();
        nodes[0].fetches(u64::try_from(IMAGE_BYTES / 8)?)?;
        etcd.kill()?;
        let mut guests = guests.into_iter();
        guests.try_for_each(|guest| guest.join().map_err(|_| anyhow!("a guest's thread died"))?)
    })?;
    let peers: u64 = nodes
        .iter()
        .map(|node| Ok(node.sources()?.peers))
        .sum::<Result<_>>()?;
    ensure!(peers > 0, "nothing came from peers");
    until_etcd(&nodes[0], false)?;
    expect(
        &nodes[0].ask(&["swarm", "members"])?,
        "etcd DOES NOT ANSWER",
    )?;
    nobody_is_given_up(&nodes, LONG)?;

    // Who starts now goes on with whom it remembers, and takes from them.
    let second = nodes.remove(1);
    second.daemon.stop()?;
    let mut second = fleet.start(2)?;
    second.daemon.ready(1, LIMIT)?;
    let remembered = until(&second, 1, "alive", LIMIT)?;
    ensure!(remembered["through"] == "etcd", "{remembered}");
    let url = second.create_instance("after", "disk")?;
    qemu::compare_with(&fleet.origin.disk, &url)?;
    nodes.insert(1, second);

    etcd.serve(fleet.folder.path())?;
    all_alive(&nodes)?;
    fleet.stop(nodes)
}

/// etcd loses all that it knew: nobody is given up for that.
fn comes_back_empty(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 3)?;
    let mut etcd = fleet.etcd()?;
    let mut nodes = fleet.start_all()?;
    etcd.kill()?;
    let empty = tempfile::tempdir_in(fleet.folder.path())?;
    etcd.serve(empty.path())?;
    nobody_is_given_up(&nodes, LONG)?;
    all_alive(&nodes)?;

    // The same by hand, and many times.
    for _ in 0..5 {
        etcd.clear()?;
        all_alive(&nodes)?;
    }
    nobody_is_given_up(&nodes, LONG)?;
    fleet.read(&mut nodes, 1)?;
    fleet.stop(nodes)
}

/// A node loses its way to etcd for longer than its lease, and etcd forgets meanwhile how things were.
fn cut_off_and_compacted(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 3)?;
    let etcd = fleet.etcd()?;
    let proxy = Proxy::start()?;
    proxy.lead_to(Some(&etcd.address))?;
    let mut nodes = vec![fleet.start(1)?, fleet.start(2)?];
    let direct = std::mem::replace(
        &mut fleet.swarm,
        format!("etcd = [\"http://{}\"]\n", proxy.address),
    );
    nodes.push(fleet.start(3)?);
    fleet.swarm = direct;
    all_alive(&nodes)?;

    proxy.go_dead(false);
    until_etcd(&nodes[2], false)?;
    proxy.lead_to(None)?;
    proxy.cut();
    until(&nodes[0], 3, "left", LIMIT)?;
    let second = nodes.remove(1);
    second.daemon.stop()?;
    until(&nodes[0], 2, "left", LIMIT)?;
    ensure!(
        known(&nodes[1], 2)?.is_some_and(|known| known["state"] == "alive"),
        "the third knows no more"
    );
    etcd.compact()?;
    proxy.lead_to(Some(&etcd.address))?;
    until(&nodes[1], 2, "left", LIMIT)?;
    until(&nodes[0], 3, "alive", LIMIT)?;

    // What happens while all are there is not lost either, whatever is forgotten.
    etcd.compact()?;
    nodes.insert(1, fleet.start(2)?);
    all_alive(&nodes)?;
    fleet.stop(nodes)
}

/// What nobody with the swarm's key wrote is nothing: it brings nobody in, and drives nobody out.
fn lies(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 2)?;
    let etcd = fleet.etcd()?;
    let rubbish: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    for (name, value) in [
        (
            "ghost",
            &b"vmthunder-member-1 1 ghost 127.0.0.1:1 1 1 here 00"[..],
        ),
        ("node 1/../..", b"x"),
        ("", b""),
        ("big", &rubbish),
    ] {
        etcd.put(&format!("{MEMBERS}{name}"), value)?;
    }
    // A name that nobody has is not kept from its node by what has no lease.
    etcd.put(&format!("{MEMBERS}node-1"), b"mine")?;
    let nodes = fleet.start_all()?;
    let record = |number: usize| etcd.get(&format!("{MEMBERS}node-{number}"));
    let second = record(2)?.context("node-2 is written down")?;
    for round in 0..20 {
        // Somebody else's record under this name, and nonsense, each under no lease.
        let answer = json!({"key": base64(format!("{MEMBERS}node-1").as_bytes()), "value": second});
        etcd.call("kv/put", &answer)?;
        etcd.put(&format!("{MEMBERS}other-{round}"), &rubbish)?;
    }
    nobody_is_given_up(&nodes, LONG)?;
    all_alive(&nodes)?;
    let members: Vec<Value> =
        serde_json::from_str(&nodes[0].ask(&["swarm", "members", "--json"])?)?;
    ensure!(members.len() == 1, "{members:?}");
    let refused = nodes[0].status()?["swarm"]["etcd"]["refused_records"].as_u64();
    ensure!(refused > Some(20), "{refused:?} records were refused");

    // A living swarm of another key has the name: that is said.
    let lease = etcd.call("lease/grant", &json!({"TTL": "600"}))?["ID"].clone();
    let key = base64(format!("{MEMBERS}node-3").as_bytes());
    etcd.call(
        "kv/put",
        &json!({"key": key, "value": second, "lease": lease}),
    )?;
    let third = fleet.start_at(3, &nodes::free_addresses(1)?.remove(0))?;
    expect(
        &third.daemon.stop_with_log()?,
        "holds what no node of this swarm wrote",
    )?;
    fleet.stop(nodes)
}

/// etcd that asks who is there.
fn user(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 2)?;
    let etcd = fleet.etcd()?;
    for name in ["root", "swarm"] {
        let password = format!("{name}-password");
        etcd.call(
            "auth/user/add",
            &json!({"name": name, "password": password}),
        )?;
        etcd.call("auth/role/add", &json!({"name": name}))?;
        etcd.call("auth/user/grant", &json!({"user": name, "role": name}))?;
    }
    let range = json!({
        "permType": "READWRITE", "key": base64(b"/vmthunder/"), "range_end": base64(b"/vmthunder0"),
    });
    etcd.call("auth/role/grant", &json!({"name": "swarm", "perm": range}))?;
    etcd.call("auth/enable", &json!({}))?;
    let password = fleet.folder.path().join("etcd.password");
    private_file(&password, "swarm-password\n")?;
    fleet.swarm += &format!(
        "etcd-user = \"swarm\"\netcd-password-file = \"{}\"\n",
        password.display()
    );
    let nodes = fleet.start_all()?;

    // Who has another password is no member, and is told why; it serves nevertheless.
    std::fs::remove_file(&password)?;
    private_file(&password, "other\n")?;
    let third = fleet.start_at(3, &nodes::free_addresses(1)?.remove(0))?;
    expect(&third.daemon.stop_with_log()?, "authentication failed")?;
    fleet.stop(nodes)
}

/// etcd that is reached over TLS, and lets in whoever has a certificate.
fn tls(bench: &Bench) -> Result<()> {
    let mut fleet = Fleet::new(bench, 2)?;
    let (etcd, [ca, certificate, key]) = Etcd::start_with_tls(fleet.folder.path())?;
    let whole = format!(
        "etcd = [\"{}\"]\netcd-ca-file = \"{ca}\"\netcd-certificate-file = \"{certificate}\"\netcd-key-file = \"{key}\"\n",
        etcd.url()
    );
    // Whom this authority did not sign is not believed.
    let other = tempfile::tempdir_in(fleet.folder.path())?;
    let (foreign, _) = Etcd::start_with_tls(other.path())?;
    fleet.swarm = whole.replace(&etcd.url(), &foreign.url());
    let third = fleet.start_at(2, &fleet.addresses[1])?;
    expect(&third.daemon.stop_with_log()?, "etcd is of no use")?;
    fleet.swarm = whole;
    let nodes = fleet.start_all()?;
    fleet.stop(nodes)
}
