//! Two initiators and a target: everything but the sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iscsi_proto::fuzzing::{Script, Source, Watch};
use iscsi_proto::session::{SessionLimits, TargetConfig};
use iscsi_proto::wire::framer::Digests;
use vmthunder_volume::testing::MemVolume;

use crate::fuzzing::{runtime, units};
use crate::nexus::Nexus;
use crate::{Export, Target, TargetOptions};

const NAME: &str = "iqn.2026-01.org.example:disk";
/// Commands that may be under way, and how wide the window becomes while some of them are stuck.
const DEPTH: u32 = 8;
const WIDEST: u32 = DEPTH * 8;
/// Turns in which everything comes to rest that can.
const TURNS: usize = 8;

/// Two sessions of one target, which may end each other's tasks. The numbers hold on both wires, no command is answered
/// twice, and what is held in memory has a bound.
pub fn service(input: &[u8]) {
    let mut source = Source::new(input);
    runtime().block_on(async {
        let target = target();
        let mut initiators = [
            Initiator::new(&target, 1, source.byte()).await,
            Initiator::new(&target, 2, source.byte()).await,
        ];
        while !source.is_empty() {
            let choice = source.byte();
            let initiator = &mut initiators[usize::from(choice & 0x01)];
            match choice {
                0..240 => initiator.say(&mut source),
                240..250 => initiator.pass(source.byte()),
                250..252 => target.resized(&NAME.parse().expect("a name"), u16::from(choice) % 3),
                252 => initiator.nexus.session.handle_disconnect(),
                _ => {}
            }
            for initiator in &mut initiators {
                initiator.settle().await;
            }
        }
        for initiator in initiators {
            initiator.nexus.end().await;
        }
        assert_eq!(
            target.stats().bytes_in_flight,
            0,
            "everything was given back"
        );
    });
}

fn target() -> Arc<Target<MemVolume>> {
    let options = TargetOptions {
        session: TargetConfig {
            queue_depth: DEPTH,
            limits: SessionLimits {
                write_bytes: 64 << 10,
                text_bytes: 4 << 10,
                ..SessionLimits::default()
            },
            ..TargetConfig::default()
        },
        ..TargetOptions::default()
    };
    let target = Target::new(options);
    let export = Export::new(NAME.parse().expect("a name"), units());
    target.export(export).expect("a target without exports");
    target
}

/// One session, and both ends of its wire.
struct Initiator {
    nexus: Nexus<MemVolume>,
    script: Script,
    watch: Watch,
    input: BytesMut,
    now: Instant,
}

impl Initiator {
    /// A session that is logged in.
    async fn new(target: &Arc<Target<MemVolume>>, isid: u8, login: u8) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3260);
        let mut nexus = Nexus::new(Arc::clone(target), address, address);
        let request = Script::login(login, isid, NAME);
        let now = Instant::now();
        nexus
            .session
            .handle_bytes(now, &mut BytesMut::from(request.as_slice()));
        nexus.turn(true, 0).await;
        assert!(nexus.is_logged_in(), "a login that succeeds");
        let mut said = Vec::new();
        while let Some(bytes) = nexus.session.poll_transmit() {
            said.extend_from_slice(&bytes);
        }
        let says = |key: &str| {
            let key = key.as_bytes();
            said.windows(key.len()).any(|text| text == key)
        };
        let digests = Digests {
            header: says("HeaderDigest=CRC32C"),
            data: says("DataDigest=CRC32C"),
        };
        Self {
            nexus,
            script: Script::new(digests),
            watch: Watch::new(digests, WIDEST),
            input: BytesMut::new(),
            now,
        }
    }

    fn say(&mut self, source: &mut Source<'_>) {
        let said = self.script.say(source);
        self.watch.said(&said);
        self.input.extend_from_slice(&said);
        self.nexus.session.handle_bytes(self.now, &mut self.input);
    }

    fn pass(&mut self, seconds: u8) {
        self.now += Duration::from_secs(u64::from(seconds % 20));
        self.nexus.session.handle_timeout(self.now);
    }

    /// Lets the target work until there is nothing left to do.
    async fn settle(&mut self) {
        for _ in 0..TURNS {
            self.nexus.turn(true, 0).await;
            while let Some(bytes) = self.nexus.session.poll_transmit() {
                for request in self.watch.hear(&bytes) {
                    self.script.asked(request);
                }
            }
            if self.nexus.tasks.is_idle() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(self.watch.is_whole());
        let held = self.nexus.session.held_bytes();
        assert!(held <= 1 << 20, "{held} bytes are held");
    }
}
