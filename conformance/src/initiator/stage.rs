//! The place where a drill is played: initiators come in by its door.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iscsi_proto::wire::{Header, Pdu};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::check::{Finding, Verdict};
use crate::initiator::caller::Caller;
use crate::initiator::disk::{BLOCKS, Disk};
use crate::initiator::login::{Entry, Record};
use crate::initiator::manner::Manner;
use crate::initiator::play::Options;
use crate::initiator::scsi::{Blocks, read_of, write_of};
use crate::wire::{Heard, Transcript, Wire};

/// What all connections to a drill's target share.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The target's name.
    pub(crate) target: String,
    /// What SendTargets answers in a discovery session.
    pub(crate) names: Arc<Vec<String>>,
    pub(crate) disk: Disk,
    pub(crate) transcript: Transcript,
    /// How long an initiator may take to do what it has to.
    pub(crate) patience: Duration,
    /// The host under which initiators see the portal, if it is another one than it has here.
    advertised: Option<String>,
    /// Whether the initiator is done, and how it went.
    pub(crate) visit: watch::Receiver<Visit>,
    tsih: AtomicU16,
    /// True as soon as anybody came.
    pub(crate) visited: watch::Sender<bool>,
    /// What the script does about another connection.
    pub(crate) script: watch::Sender<Attention>,
    connections: AtomicUsize,
    /// True if the initiator logged out of the connection that came last.
    pub(crate) logged_out: AtomicBool,
    /// True once a connection came that the script was too busy to take.
    pub(crate) aside: AtomicBool,
    /// True while the script waits for what the initiator does next, or has waited in vain.
    pub(crate) in_vain: AtomicBool,
    /// How often each READ (false) and WRITE (true) from a block on came, on all connections together.
    transfers: Mutex<BTreeMap<(bool, u64), usize>>,
    /// What came and was no PDU.
    nonsense: Mutex<Option<String>>,
    /// When the last connection was closed.
    left: Mutex<Option<Instant>>,
}

/// What a script does about another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// It does something else now.
    Busy,
    /// It waits for one.
    Waits,
    /// It has ended and needs none.
    Ended,
}

/// A connection is there. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    scene: Arc<Scene>,
    /// True if no script looks at the connection.
    aside: bool,
}

impl Presence {
    pub(crate) fn new(scene: &Arc<Scene>) -> Self {
        scene.visited.send_replace(true);
        scene.connections.fetch_add(1, Ordering::AcqRel);
        scene.logged_out.store(false, Ordering::Release);
        Self {
            scene: Arc::clone(scene),
            aside: false,
        }
    }

    /// The connection is served beside the script, which cannot see what comes on it.
    fn step_aside(&mut self) {
        self.aside = true;
        // A script that has ended misses nothing.
        if *self.scene.script.borrow() != Attention::Ended {
            self.scene.aside.store(true, Ordering::Release);
        }
    }

    /// What comes on the connection next.
    pub(crate) async fn hear(&self, wire: &mut Wire) -> Heard {
        if !self.aside {
            self.scene.in_vain.store(true, Ordering::Release);
        }
        let heard = self.scene.hear(wire).await;
        if let Heard::Pdu(pdu) = &heard {
            self.scene.note_transfer(pdu);
        }
        if !self.aside && !matches!(heard, Heard::Closed | Heard::Silence) {
            self.scene.in_vain.store(false, Ordering::Release);
        }
        heard
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut left = self
            .scene
            .left
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *left = Some(Instant::now());
        self.scene.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How far an initiator is with a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// It may come, or come again.
    UnderWay,
    /// It is over. Whether the initiator's user got what it wanted is known where a command was run.
    Over { succeeded: Option<bool> },
}

/// Where one drill is played.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scene: Arc<Scene>,
    door: mpsc::Receiver<Entry>,
}

impl Scene {
    pub(crate) fn new(
        target: String,
        names: Arc<Vec<String>>,
        options: &Options,
        visit: watch::Receiver<Visit>,
    ) -> Self {
        let serial = target.rsplit(':').next().unwrap_or_default().to_owned();
        Self {
            disk: Disk::new(&serial),
            target,
            names,
            transcript: Transcript::default(),
            patience: options.patience,
            advertised: options.advertised.clone(),
            visit,
            tsih: AtomicU16::new(1),
            visited: watch::Sender::new(false),
            script: watch::Sender::new(Attention::Busy),
            connections: AtomicUsize::new(0),
            logged_out: AtomicBool::new(false),
            aside: AtomicBool::new(false),
            in_vain: AtomicBool::new(false),
            transfers: Mutex::default(),
            nonsense: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// An address of this side, `HOST:PORT`, as initiators see it.
    pub(crate) fn advertised(&self, address: &str) -> String {
        match (&self.advertised, address.rsplit_once(':')) {
            (Some(host), Some((_, port))) => format!("{host}:{port}"),
            _ => address.to_owned(),
        }
    }

    /// A handle for a new session; never zero.
    pub(crate) fn new_tsih(&self) -> u16 {
        self.tsih.fetch_add(1, Ordering::Relaxed).max(1)
    }

    /// What an initiator says next, however long it takes; when the visit is over it has little time left.
    async fn hear(&self, wire: &mut Wire) -> Heard {
        tokio::select! {
            biased;
            heard = wire.next_within(LONGEST_SILENCE) => {
                if matches!(heard, Heard::Nonsense(_) | Heard::DataDigestError(_)) {
                    self.nonsense().get_or_insert_with(|| heard.to_string());
                }
                return heard;
            }
            () = self.over() => {}
        }
        match wire.next_within(LAST_WORDS).await {
            Heard::Silence => Heard::Closed,
            heard => heard,
        }
    }

    /// What came and was no PDU, if anything was.
    pub(crate) fn nonsense(&self) -> MutexGuard<'_, Option<String>> {
        self.nonsense.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_transfer(&self, pdu: &Pdu) {
        let Header::ScsiCommand(command) = &pdu.header else {
            return;
        };
        // Those beyond the end would be more than can be counted.
        if let Some((writes, blocks)) = transfer(&command.cdb)
            && command.lun.get() == 0
            && blocks.first < BLOCKS
        {
            let mut transfers = self.transfers();
            *transfers.entry((writes, blocks.first)).or_default() += 1;
        }
    }

    /// True if the script gets a connection: it waits for one, or does so within a moment. It waits no more then.
    pub(crate) async fn takes_another(&self) -> bool {
        let mut script = self.script.subscribe();
        let taken = async {
            loop {
                // Before it is claimed: what changes from here on is seen below.
                let ended = *script.borrow_and_update() == Attention::Ended;
                let claimed = self.script.send_if_modified(|script| {
                    let waits = *script == Attention::Waits;
                    if waits {
                        *script = Attention::Busy;
                    }
                    waits
                });
                if claimed || ended {
                    return claimed;
                }
                // The other end is the scene's own.
                let _changed = script.changed().await;
            }
        };
        timeout(A_MOMENT, taken).await.unwrap_or(false)
    }

    /// How many commands came, on whatever connection, that read as this one does, or write, from its first block on.
    pub(crate) fn transfers_like(&self, cdb: &[u8; 16]) -> usize {
        let key = transfer(cdb).map(|(writes, blocks)| (writes, blocks.first));
        let transfers = self.transfers();
        key.and_then(|key| transfers.get(&key).copied())
            .unwrap_or_default()
    }

    fn transfers(&self) -> MutexGuard<'_, BTreeMap<(bool, u64), usize>> {
        self.transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the visit is over.
    pub(crate) async fn over(&self) {
        let mut visit = self.visit.clone();
        // Without the other end the visit is over, too.
        let _ended = visit.wait_for(|visit| *visit != Visit::UnderWay).await;
    }

    /// True while there is a connection.
    pub(crate) fn is_occupied(&self) -> bool {
        self.connections.load(Ordering::Acquire) > 0
    }

    /// True if the initiator came, logged out and left.
    pub(crate) fn is_left(&self) -> bool {
        !self.is_occupied() && self.logged_out.load(Ordering::Acquire)
    }

    /// How long nobody is there any more; `None` if nobody came yet, or somebody is there.
    pub(crate) fn absence(&self) -> Option<Duration> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.filter(|_| !self.is_occupied())
            .map(|left| left.elapsed())
    }

    /// Whether the initiator's user got what it wanted; `None` where nobody knows.
    fn succeeded(&self) -> Option<bool> {
        match *self.visit.borrow() {
            Visit::UnderWay => None,
            Visit::Over { succeeded } => succeeded,
        }
    }
}

impl Stage {
    pub(crate) fn new(scene: Arc<Scene>, door: mpsc::Receiver<Entry>) -> Self {
        Self { scene, door }
    }

    /// The next connection on which a login begins; `None` if nobody comes any more.
    pub(crate) async fn next(&mut self) -> Option<Entry> {
        self.scene.in_vain.store(true, Ordering::Release);
        self.scene.script.send_replace(Attention::Waits);
        let entry = tokio::select! {
            biased;
            entry = self.door.recv() => entry,
            () = self.scene.over() => self.door.try_recv().ok(),
        };
        self.scene.script.send_replace(Attention::Busy);
        self.scene.in_vain.store(entry.is_none(), Ordering::Release);
        entry
    }

    /// The next connection within a time.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<Entry> {
        let entry = timeout(time, self.next()).await.unwrap_or_default();
        self.scene.script.send_replace(Attention::Busy);
        entry
    }

    /// The first connection.
    pub(crate) async fn entry(&mut self) -> Result<Entry, Finding> {
        self.next()
            .await
            .ok_or_else(|| Finding::NotApplicable("nobody logged in".to_owned()))
    }

    /// The next session, logged in soundly in this manner.
    pub(crate) async fn caller(&mut self, manner: &Manner) -> Result<Caller, Finding> {
        Ok(self.entry().await?.log_in(manner).await?)
    }

    /// The next session if another one comes.
    pub(crate) async fn another(&mut self, manner: &Manner) -> Result<Option<Caller>, Finding> {
        match self.next().await {
            Some(entry) => Ok(Some(entry.log_in(manner).await?)),
            None => Ok(None),
        }
    }

    /// The first request that is wanted, in whatever session it comes, and that session; those before are served.
    pub(crate) async fn request(
        &mut self,
        manner: &Manner,
        missing: &str,
        mut wanted: impl FnMut(&Pdu) -> bool,
    ) -> Result<(Caller, Pdu), Finding> {
        let mut next = Some(self.caller(manner).await?);
        while let Some(mut caller) = next.take() {
            if let Some(pdu) = caller.serve_until(&mut wanted).await {
                return Ok((caller, pdu));
            }
            drop(caller);
            next = self.another(manner).await?;
        }
        Err(Finding::NotApplicable(missing.to_owned()))
    }

    /// Judges a login, then serves the session.
    pub(crate) async fn login(
        &mut self,
        manner: &Manner,
        judge: impl Fn(&Record) -> Verdict,
    ) -> Verdict {
        match self.entry().await?.log_in(manner).await {
            Ok(caller) => {
                judge(&caller.record)?;
                self.see_off(caller).await
            }
            Err(given_up) => {
                judge(&given_up.entry.record)?;
                Err(given_up.into())
            }
        }
    }

    /// Serves all sessions to their end and looks at each request before it is served. `look` says whether the request
    /// was one that the rule is about; without any the rule does not apply, for the reason `missing`.
    pub(crate) async fn watch(
        &mut self,
        manner: &Manner,
        missing: &str,
        mut look: impl FnMut(&Caller, &Pdu) -> Result<bool, Finding>,
    ) -> Verdict {
        let mut next = Some(self.caller(manner).await?);
        let mut seen = 0_u64;
        while let Some(mut caller) = next.take() {
            loop {
                match caller.hear().await {
                    Heard::Pdu(pdu) => {
                        seen += u64::from(look(&caller, &pdu)?);
                        caller.serve(pdu).await;
                    }
                    other @ (Heard::Nonsense(_) | Heard::DataDigestError(_)) => {
                        return Err(Finding::Violation(other.to_string()));
                    }
                    Heard::Closed | Heard::Silence => break,
                }
            }
            drop(caller);
            next = self.another(manner).await?;
        }
        match seen {
            0 => Err(Finding::NotApplicable(missing.to_owned())),
            _ => Ok(()),
        }
    }

    /// The rule is kept; what is left of the visit is served.
    pub(crate) async fn see_off(&mut self, caller: Caller) -> Verdict {
        self.outcome(Some(caller)).await;
        Ok(())
    }

    /// Serves all that comes until the visit is over; whether the initiator's user got what it wanted.
    pub(crate) async fn outcome(&mut self, caller: Option<Caller>) -> Option<bool> {
        if let Some(mut caller) = caller {
            caller.serve_to_the_end().await;
        }
        while let Some(entry) = self.next().await {
            if let Ok(mut caller) = entry.log_in(&Manner::PLAIN).await {
                caller.serve_to_the_end().await;
            }
        }
        self.scene.succeeded()
    }
}

/// Serves a connection that no script wants.
pub(crate) async fn serve_aside(mut entry: Entry) {
    entry.presence.step_aside();
    if let Ok(mut caller) = entry.log_in(&Manner::PLAIN).await {
        caller.serve_to_the_end().await;
    }
}

/// True for a WRITE, and the blocks; `None` for other commands.
fn transfer(cdb: &[u8; 16]) -> Option<(bool, Blocks)> {
    let read = read_of(cdb).map(|blocks| (false, blocks));
    read.or_else(|| write_of(cdb).map(|blocks| (true, blocks)))
}

/// How long an initiator may have nothing to say.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);
/// How long a connection waits for a script that does something else.
const A_MOMENT: Duration = Duration::from_millis(300);
/// How long a connection may outlive the visit.
const LAST_WORDS: Duration = Duration::from_millis(500);
