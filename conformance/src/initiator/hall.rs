//! The listening portal: each connection is led to the drill whose target it names.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use iscsi_proto::wire::bhs::BHS_BYTES;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::initiator::login::Entry;
use crate::initiator::stage::{Scene, serve_aside};
use crate::keys::Keys;
use crate::wire::Wire;

/// A portal of drills.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `HOST:PORT`; port 0 takes a free one.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The drills that can be visited now.
#[derive(Debug, Default)]
pub(crate) struct Hall(Mutex<Doors>);

#[derive(Debug, Default)]
struct Doors {
    by_target: BTreeMap<String, Door>,
    /// Targets of drills for discovery sessions that nobody came to yet.
    discovery: VecDeque<String>,
    /// Where discovery sessions go that no drill is about.
    plain: Option<Arc<Scene>>,
}

/// Where connections to one drill are handed in.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) scene: Arc<Scene>,
    pub(crate) entries: mpsc::Sender<Entry>,
}

impl Hall {
    /// Opens a door.
    pub(crate) fn open(&self, door: Door, discovery: bool) {
        let mut doors = self.doors();
        let target = door.scene.target.clone();
        if discovery {
            doors.discovery.push_back(target.clone());
        }
        doors.by_target.insert(target, door);
    }

    /// Closes the door of a target.
    pub(crate) fn close(&self, target: &str) {
        let mut doors = self.doors();
        doors.by_target.remove(target);
        doors.discovery.retain(|other| other != target);
    }

    /// Where discovery sessions go that no drill is about.
    pub(crate) fn receive_others_at(&self, scene: Arc<Scene>) {
        self.doors().plain = Some(scene);
    }

    /// Accepts connections until it is dropped.
    pub(crate) async fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut admitted = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    while admitted.try_join_next().is_some() {}
                    if admitted.len() < MOST_CONNECTIONS {
                        admitted.spawn(Arc::clone(&self).admit(stream));
                    }
                }
                // Too many open files, perhaps: others may close some.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn admit(self: Arc<Self>, mut stream: TcpStream) {
        let first = timeout(FIRST_PDU, first_pdu(&mut stream)).await;
        let Ok(Ok((bytes, keys))) = first else {
            return;
        };
        let discovery = keys.get("SessionType") == Some("Discovery");
        let (scene, entries) = match self.find(keys.get("TargetName"), discovery) {
            Some(Found::Drill(door)) => (door.scene, Some(door.entries)),
            Some(Found::Plain(scene)) => (scene, None),
            None => return,
        };
        let mut wire = Wire::over(stream, scene.patience, &scene.transcript);
        wire.unread(bytes);
        let entry = Entry::new(wire, Arc::clone(&scene));
        match entries {
            Some(entries) => hand_in(&scene, &entries, entry).await,
            None => serve_aside(entry).await,
        }
    }

    fn find(&self, target: Option<&str>, discovery: bool) -> Option<Found> {
        let mut doors = self.doors();
        if !discovery {
            let door = match target {
                Some(target) => doors.by_target.get(target),
                // It can only be meant for this one.
                None if doors.by_target.len() == 1 => doors.by_target.values().next(),
                None => None,
            };
            return door.cloned().map(Found::Drill);
        }
        while let Some(target) = doors.discovery.front().cloned() {
            match doors.by_target.get(&target) {
                // Whoever comes again goes on to the next drill, unless it is the only one.
                Some(door) if doors.discovery.len() == 1 => {
                    return Some(Found::Drill(door.clone()));
                }
                Some(door) => {
                    let door = door.clone();
                    doors.discovery.pop_front();
                    return Some(Found::Drill(door));
                }
                None => doors.discovery.pop_front(),
            };
        }
        doors.plain.clone().map(Found::Plain)
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Found {
    Drill(Door),
    Plain(Arc<Scene>),
}

/// Gives a connection to the script if it waits for one, else serves it soundly.
async fn hand_in(scene: &Arc<Scene>, entries: &mpsc::Sender<Entry>, entry: Entry) {
    if scene.takes_another().await {
        // The script may have ended this very moment; then nobody needs the connection.
        let _too_late = entries.send(entry).await;
    } else {
        serve_aside(entry).await;
    }
}

/// The bytes of the first PDU, and more if more came with it; and its keys.
async fn first_pdu(stream: &mut TcpStream) -> io::Result<(BytesMut, Keys)> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(head) = bytes.first_chunk::<BHS_BYTES>() {
            let ahs = usize::from(head[4]) * 4;
            let data =
                usize::from(head[6]) << 8 | usize::from(head[7]) | usize::from(head[5]) << 16;
            let start = BHS_BYTES + ahs;
            if data > LONGEST_TEXT {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if let Some(text) = bytes.get(start..start + data) {
                let keys = Keys::parse(text).unwrap_or_default();
                return Ok((bytes, keys));
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The most connections at a time.
const MOST_CONNECTIONS: usize = 512;
/// How long the first PDU of a connection may take.
const FIRST_PDU: Duration = Duration::from_secs(10);
/// How long the text of the first PDU may be.
const LONGEST_TEXT: usize = 64 * 1024;
