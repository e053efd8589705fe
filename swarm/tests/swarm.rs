//! Swarms of volumes in memory, in virtual time: peers that die, lie, refuse and keep silent.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use vmthunder_swarm::forest::{Forest, NodeName, Parent, Tree};
use vmthunder_swarm::manifest::{Hashes, Header, build, manifest_geometry};
use vmthunder_swarm::{Patient, Swarm, SwarmOptions, SwarmStats, Verify};
use vmthunder_volume::testing::{Fault, FaultyVolume, MemVolume};
use vmthunder_volume::{
    Allocation, BlockSize, Class, EXTENT_BYTES, Error, Extent, Geometry, Span, Volume,
};

type Peer = Arc<Mortal>;

/// A source that can die while it answers.
struct Mortal {
    faulty: FaultyVolume<MemVolume>,
    dead: CancellationToken,
}

const EXTENTS: u64 = 130;

impl Deref for Mortal {
    type Target = FaultyVolume<MemVolume>;

    fn deref(&self) -> &Self::Target {
        &self.faulty
    }
}

impl Volume for Mortal {
    fn geometry(&self) -> Geometry {
        self.faulty.geometry()
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes, Error> {
        let answer = self.dead.run_until_cancelled(self.faulty.read(span, class));
        answer.await.unwrap_or(Err(Error::Unavailable))
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }
}

/// Nine nodes; the one that is looked at asks its parent for extent 5, which asks others.
struct Lab {
    swarm: Arc<Swarm<Peer, Peer>>,
    origin: Peer,
    members: Vec<(NodeName, Peer)>,
    me: NodeName,
}

fn name(number: u32) -> NodeName {
    NodeName::new(&format!("node-{number}")).expect("a name")
}

fn image() -> Vec<u8> {
    // Extent 3 is zero, every other one begins with its number.
    let mut bytes = vec![0; usize::try_from(EXTENTS * EXTENT_BYTES).expect("small")];
    for (number, extent) in bytes
        .chunks_mut(65_536)
        .enumerate()
        .filter(|(number, _)| *number != 3)
    {
        extent.fill(u8::try_from(number).expect("small") + 1);
    }
    bytes
}

fn volume() -> Peer {
    let geometry = Geometry::of_bytes(BlockSize::B512, EXTENTS * EXTENT_BYTES);
    Arc::new(Mortal {
        faulty: FaultyVolume::new(MemVolume::new(geometry, image())),
        dead: CancellationToken::new(),
    })
}

async fn verify() -> Verify {
    let image = volume();
    let out = MemVolume::zeroed(manifest_geometry(image.geometry()));
    let header = Arc::new(build(image, &out, |_| {}).await.expect("a manifest"));
    Verify::Extents(Arc::new(Hashes::new(header, out, 4)))
}

async fn lab_with(options: SwarmOptions, verify: Verify) -> Lab {
    let names: Vec<NodeName> = (0..9).map(name).collect();
    let forest = Forest::new(&names);
    // Somebody with two ancestors in the tree of extent 5.
    let depth = |node: &NodeName| forest.path(node, Tree::of(Extent(5)), &[]).count();
    let me = names
        .iter()
        .max_by_key(|node| depth(node))
        .expect("nine nodes")
        .clone();
    let members: Vec<(NodeName, Peer)> = names.into_iter().map(|name| (name, volume())).collect();
    let origin = volume();
    let swarm = Arc::new(Swarm::new(me.clone(), origin.clone(), verify, options));
    swarm.set_members(members.clone());
    Lab {
        swarm,
        origin,
        members,
        me,
    }
}

async fn lab() -> Lab {
    lab_with(SwarmOptions::default(), verify().await).await
}

/// Reads an extent and gives the byte that it is full of.
async fn read(volume: &impl Volume, extent: u64, class: Class) -> Result<u8, Error> {
    let span = Span::new(extent * EXTENT_BYTES, EXTENT_BYTES);
    let bytes = timeout(Duration::from_secs(90), volume.read(span, class))
        .await
        .expect("it ends")?;
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    Ok(bytes[0])
}

impl Lab {
    /// The ancestors of the node in the tree of extent 5, nearest first.
    fn ancestors(&self) -> Vec<Peer> {
        let names: Vec<NodeName> = self.members.iter().map(|(name, _)| name.clone()).collect();
        let forest = Forest::new(&names);
        let path = forest.path(&self.me, Tree::of(Extent(5)), &[]);
        path.filter_map(|parent| match parent {
            Parent::Node(node) => self
                .members
                .iter()
                .find(|(name, _)| *name == node)
                .map(|(_, peer)| peer.clone()),
            Parent::Origin => None,
        })
        .collect()
    }

    async fn read(&self, extent: u64, class: Class) -> Result<u8, Error> {
        read(&*self.swarm, extent, class).await
    }

    /// A guest over the swarm, who waits for a minute.
    fn guest(&self) -> Patient<Arc<Swarm<Peer, Peer>>> {
        Patient::new(self.swarm.clone(), Some(Duration::from_secs(60)))
    }

    /// Lets every source go wrong, or right again.
    fn set_all(&self, fault: &Fault) {
        let peers = self.members.iter().map(|(_, peer)| peer);
        peers
            .chain([&self.origin])
            .for_each(|source| source.set(fault.clone()));
    }

    fn stats(&self) -> SwarmStats {
        self.swarm.stats()
    }

    fn asked(&self) -> u64 {
        self.origin.below().reads()
            + self
                .members
                .iter()
                .map(|(_, peer)| peer.below().reads())
                .sum::<u64>()
    }
}

#[tokio::test(start_paused = true)]
async fn the_parent_answers_and_zeros_travel_never() {
    let lab = lab().await;
    assert_eq!(lab.read(5, Class::Demand).await.unwrap(), 6);
    assert_eq!(lab.ancestors()[0].below().reads(), 1);
    assert_eq!(lab.read(3, Class::Demand).await.unwrap(), 0);
    assert_eq!(lab.asked(), 1);
    assert_eq!(lab.stats().known_extents, 1);
}

#[tokio::test(start_paused = true)]
async fn a_span_over_several_extents_is_put_together() {
    let lab = lab().await;
    let bytes = lab
        .swarm
        .read(
            Span::new(2 * EXTENT_BYTES - 512, 2 * EXTENT_BYTES + 1024),
            Class::Demand,
        )
        .await
        .unwrap();
    assert_eq!(&bytes[..], &image()[2 * 65_536 - 512..4 * 65_536 + 512]);
}

#[tokio::test(start_paused = true)]
async fn a_liar_is_never_passed_on_and_not_asked_again_for_ten_minutes() {
    for class in [Class::Demand, Class::Peer, Class::Prefetch, Class::Fill] {
        let lab = lab().await;
        let liar = lab.ancestors()[0].clone();
        liar.set(Fault::Lie);
        for extent in [5, 69] {
            assert_eq!(
                u64::from(lab.read(extent, class).await.unwrap()),
                extent + 1
            );
        }
        advance(Duration::from_secs(599)).await;
        assert_eq!(lab.read(5, class).await.unwrap(), 6);
        assert_eq!(liar.below().reads(), 1);
        let mut stats = lab.stats().sources.into_iter();
        let stats = stats.find(|source| source.corrupt > 0).unwrap();
        assert_eq!((stats.corrupt, stats.extents, stats.absent), (1, 0, true));
        advance(Duration::from_secs(2)).await;
        liar.set(Fault::None);
        assert_eq!(lab.read(5, class).await.unwrap(), 6);
        assert_eq!(liar.below().reads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dies_in_the_middle_costs_nobody_the_time_of_a_silence() {
    let lab = lab().await;
    let parent = lab.ancestors()[0].clone();
    parent.set(Fault::Hang);
    let readers = [Class::Demand, Class::Peer, Class::Prefetch].map(|class| {
        let swarm = lab.swarm.clone();
        tokio::spawn(async move { read(&*swarm, 5, class).await })
    });
    sleep(Duration::from_millis(40)).await;
    let begin = Instant::now();
    parent.dead.cancel();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), 6);
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(lab.read(69, Class::Peer).await.unwrap(), 70);
    assert_eq!(parent.below().reads(), 0);
    assert_eq!(lab.origin.below().reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn dead_peers_are_counted_out_until_the_origin_answers() {
    let lab = lab().await;
    for (_, peer) in &lab.members {
        peer.set(Fault::Fail(Error::Unavailable));
    }
    assert_eq!(lab.read(5, Class::Demand).await.unwrap(), 6);
    assert_eq!(lab.origin.below().reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_costs_one_silence_and_is_left_out() {
    let lab = lab().await;
    lab.ancestors()[0].set(Fault::Hang);
    let begin = Instant::now();
    assert!(matches!(lab.read(5, Class::Peer).await, Err(Error::Busy)));
    // Three levels down the patience is 250 ms and three times 25 ms.
    assert_eq!(begin.elapsed().as_millis(), 325);
    assert_eq!(lab.read(69, Class::Peer).await.unwrap(), 70);
    assert_eq!(begin.elapsed().as_millis(), 325);

    let lab = self::lab().await;
    lab.ancestors()[0].set(Fault::Hang);
    let begin = Instant::now();
    assert_eq!(read(&lab.guest(), 5, Class::Demand).await.unwrap(), 6);
    let took = begin.elapsed().as_millis();
    assert!((325..330).contains(&took), "{took}: one silence, and 3 ms");
    assert_eq!(lab.origin.below().reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_passed_up_at_once_and_waited_out_by_guests_only() {
    let lab = lab().await;
    let (parent, guest) = (lab.ancestors()[0].clone(), lab.guest());
    parent.set(Fault::Fail(Error::Busy));
    let begin = Instant::now();
    for class in [Class::Peer, Class::Prefetch, Class::Fill] {
        assert!(matches!(read(&guest, 5, class).await, Err(Error::Busy)));
    }
    assert!(matches!(lab.read(5, Class::Demand).await, Err(Error::Busy)));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(lab.stats().refused, 4);
    parent.set(Fault::None);
    parent.queue(Fault::Fail(Error::Busy));
    parent.queue(Fault::Fail(Error::Busy));
    assert_eq!(read(&guest, 5, Class::Demand).await.unwrap(), 6);
    assert!(
        begin.elapsed() >= Duration::from_millis(3),
        "1 ms, then 2 ms"
    );
    // Who refuses is alive: nobody else was asked.
    assert_eq!((parent.below().reads(), lab.asked()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once_and_has_a_place_for_peers() {
    let options = SwarmOptions {
        peer_queue: NonZeroU32::MIN,
        ..SwarmOptions::default()
    };
    let lab = lab_with(options, verify().await).await;
    lab.ancestors()[0].queue(Fault::Hang);
    let swarm = lab.swarm.clone();
    let stuck = tokio::spawn(async move { read(&*swarm, 5, Class::Prefetch).await });
    tokio::task::yield_now().await;
    assert!(matches!(
        lab.read(69, Class::Demand).await,
        Err(Error::Busy)
    ));
    assert_eq!(lab.read(69, Class::Peer).await.unwrap(), 70);
    assert!(matches!(stuck.await.unwrap(), Err(Error::Busy)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_outlasts_an_outage_of_everybody_and_gives_up_at_its_deadline() {
    for fault in [Fault::Fail(Error::Unavailable), Fault::Hang] {
        let lab = lab().await;
        lab.set_all(&fault);
        let (guest, begin) = (lab.guest(), Instant::now());
        let waiting = tokio::spawn(async move { read(&guest, 5, Class::Demand).await });
        sleep(Duration::from_secs(30)).await;
        assert!(!waiting.is_finished());
        lab.origin.set(Fault::None);
        assert_eq!(waiting.await.unwrap().unwrap(), 6);
        // At most a wait of 75 ms, and what may just have begun: silences of the peers that are tried again.
        let late = begin.elapsed() - Duration::from_secs(30);
        assert!(late < Duration::from_secs(3), "{late:?}");

        lab.set_all(&fault);
        let (guest, begin) = (lab.guest(), Instant::now());
        assert!(matches!(
            read(&guest, 6, Class::Demand).await,
            Err(Error::Device {
                key: 4,
                asc: 8,
                ascq: 0
            })
        ));
        let seconds = begin.elapsed().as_secs();
        assert_eq!(seconds, 60);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extent_that_is_wrong_at_the_origin_is_waited_for_and_the_others_are_not() {
    let lab = lab().await;
    let guest = lab.guest();
    lab.swarm.set_members(Vec::new());
    lab.origin.set(Fault::Lie);
    let begin = Instant::now();
    let (wrong, right, rest) = tokio::join!(
        read(&guest, 5, Class::Demand),
        async {
            sleep(Duration::from_millis(3500)).await;
            assert_eq!(lab.stats().origin_wrong, 1);
            assert_eq!(lab.asked(), 4, "once a second");
            lab.origin.set(Fault::None);
            let right = read(&guest, 6, Class::Demand).await;
            assert_eq!(begin.elapsed(), Duration::from_millis(3500));
            right
        },
        read(lab.swarm.as_ref(), 5, Class::Peer),
    );
    assert_eq!((wrong.unwrap(), right.unwrap()), (6, 7));
    assert!(matches!(rest, Err(Error::Busy)), "nobody else waits");
    assert_eq!(begin.elapsed().as_secs(), 4, "it was mended");
    assert_eq!(lab.stats().origin_wrong, 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_manifest_peers_are_never_asked() {
    let lab = lab_with(SwarmOptions::default(), Verify::Nothing).await;
    for extent in 0..20 {
        lab.read(extent, Class::Demand).await.unwrap();
    }
    assert_eq!(lab.origin.below().reads(), 20);
    assert_eq!(lab.asked(), 20);
}

#[tokio::test(start_paused = true)]
async fn without_a_manifest_a_block_that_the_origin_lost_is_an_error_and_the_others_are_not() {
    let lab = lab_with(SwarmOptions::default(), Verify::Nothing).await;
    let guest = lab.guest();
    lab.origin.set(Fault::Fail(Error::Corrupt));
    let begin = Instant::now();
    let lost = read(&guest, 5, Class::Demand).await;
    assert!(matches!(lost, Err(Error::Corrupt)), "{lost:?}");
    assert_eq!(lab.stats().origin_wrong, 0, "nobody knows what is right");
    lab.origin.set(Fault::None);
    assert_eq!(read(&guest, 5, Class::Demand).await.unwrap(), 6);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn demand_waits_in_line_at_the_origin_for_a_moment_where_a_peer_is_refused() {
    let options = SwarmOptions {
        origin_queue: NonZeroU32::MIN,
        ..SwarmOptions::default()
    };
    let lab = lab_with(options, verify().await).await;
    lab.swarm.set_members(Vec::new());
    let ask = |extent, class| {
        let swarm = lab.swarm.clone();
        tokio::spawn(async move { read(&*swarm, extent, class).await })
    };
    lab.origin.queue(Fault::Hang);
    // One place is shared, one is the peers' reserve.
    let (begin, stuck) = (Instant::now(), ask(5, Class::Demand));
    tokio::task::yield_now().await;
    assert_eq!(lab.read(6, Class::Peer).await.unwrap(), 7, "the reserve");
    assert_eq!(lab.read(7, Class::Demand).await.unwrap(), 8);
    // The silent one was given up first.
    assert_eq!(begin.elapsed().as_millis(), 250);
    assert!(matches!(stuck.await.unwrap(), Err(Error::Busy)));

    lab.origin.set(Fault::Hang);
    let begin = Instant::now();
    let line: Vec<_> = (8..20).map(|extent| ask(extent, Class::Demand)).collect();
    for asked in line {
        assert!(matches!(asked.await.unwrap(), Err(Error::Busy)));
    }
    // Whoever has no place after a second goes; the last place is given away just before.
    assert!(begin.elapsed() <= Duration::from_millis(1251));
}

#[tokio::test(start_paused = true)]
async fn the_origin_is_read_at_no_more_than_its_rate() {
    let options = SwarmOptions {
        origin_bytes_per_second: NonZeroU64::new(100 * EXTENT_BYTES),
        ..SwarmOptions::default()
    };
    let swarm: Arc<Swarm<Peer, Peer>> =
        Arc::new(Swarm::new(name(0), volume(), Verify::Nothing, options));
    let begin = Instant::now();
    let reads: Vec<_> = (0..40)
        .map(|extent| {
            let swarm = swarm.clone();
            tokio::spawn(async move { read(&*swarm, extent, Class::Prefetch).await })
        })
        .collect();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    // Ten milliseconds for each, less a fiftieth of a second that it may be ahead.
    let took = begin.elapsed().as_millis();
    assert!((370..=400).contains(&took), "{took}");
    assert!(
        read(&*swarm, 0, Class::Peer).await.is_err(),
        "a peer is refused at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_hedged_at_the_next_ancestor_within_the_budget() {
    let lab = lab().await;
    let (parent, grandparent) = (lab.ancestors()[0].clone(), lab.ancestors()[1].clone());
    for round in 0..100 {
        lab.read(5 + 64 * (round % 2), Class::Demand).await.unwrap();
    }
    parent.queue(Fault::Hang);
    let (begin, before) = (Instant::now(), grandparent.below().reads());
    assert_eq!(lab.read(5, Class::Demand).await.unwrap(), 6);
    // Half of 250 ms and three times 25 ms, as the timer rounds it.
    assert_eq!(begin.elapsed().as_millis(), 163);
    assert_eq!(lab.stats().hedges, 1);
    assert_eq!(grandparent.below().reads(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_a_swarm_of_its_own() {
    let image = volume();
    let manifest = Arc::new(MemVolume::zeroed(manifest_geometry(image.geometry())));
    let header: Header = build(image, &manifest, |_| {}).await.unwrap();
    let pages: Swarm<Arc<MemVolume>, Peer> = Swarm::new(
        name(0),
        manifest.clone(),
        Verify::Pages(Arc::new(header.clone())),
        SwarmOptions::default(),
    );
    let read = Header::read(&pages, Some(&header.root())).await.unwrap();
    assert_eq!(manifest.reads(), 0, "the header is known");
    let hashes = Arc::new(Hashes::new(Arc::new(read), pages, 4));
    let peer = volume();
    let swarm = Swarm::new(
        name(0),
        volume(),
        Verify::Extents(hashes),
        SwarmOptions::default(),
    );
    swarm.set_members(vec![(name(1), peer.clone())]);
    for extent in 0..EXTENTS {
        swarm
            .read(
                Span::new(extent * EXTENT_BYTES, EXTENT_BYTES),
                Class::Demand,
            )
            .await
            .unwrap();
    }
    assert_eq!(manifest.reads(), 1);
    // Who is the parent in one tree of a pair is the child in the other.
    let given = peer.below().reads();
    assert!((60..70).contains(&given), "{given}");
}

/// Extent 3 is zeros, which the manifest knows.
#[tokio::test(start_paused = true)]
async fn zeros_of_the_manifest_are_holes_and_nobody_is_asked() {
    let lab = lab().await;
    let extents = |from: u64, to: u64| Span::new(from * EXTENT_BYTES, (to - from) * EXTENT_BYTES);
    for (asked, kind, run) in [
        (extents(0, EXTENTS), Allocation::Mapped, extents(0, 3)),
        (extents(3, EXTENTS), Allocation::Hole, extents(3, 4)),
        (extents(4, EXTENTS), Allocation::Mapped, extents(4, EXTENTS)),
        (
            Span::new(3 * EXTENT_BYTES + 512, 512),
            Allocation::Hole,
            Span::new(3 * EXTENT_BYTES + 512, 512),
        ),
    ] {
        assert_eq!(lab.swarm.allocation(asked).await.unwrap(), (kind, run));
    }
    assert_eq!(lab.origin.below().reads(), 0);
    let blind = lab_with(SwarmOptions::default(), Verify::Nothing).await;
    let whole = extents(0, EXTENTS);
    assert_eq!(
        blind.swarm.allocation(whole).await.unwrap(),
        (Allocation::Mapped, whole)
    );
}
