//! What an operator is told of the cache's disk: the cause as it is now, and in the log its beginning and its end.

use std::fmt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use vmthunder_volume::EXTENT_BYTES;

use crate::body::lock;
use crate::{Cause, Store, StoreOptions, StoreState};

/// Keeps what is logged by default: warnings and errors.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Message(&mut text));
        lock(&self.0).push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What is logged meanwhile.
fn heard(during: impl FnOnce()) -> Vec<String> {
    let all = Heard::default();
    tracing::subscriber::with_default(all.clone(), during);
    std::mem::take(&mut *lock(&all.0))
}

async fn open(path: &Path, slots: u64) -> Arc<Store> {
    let options = StoreOptions {
        path: path.to_owned(),
        bytes: slots * EXTENT_BYTES,
        scrub_bytes_per_second: 0,
    };
    Store::open(options).await.unwrap()
}

fn cause(store: &Store) -> Option<Cause> {
    match store.stats().state {
        StoreState::Ok => None,
        StoreState::Degraded { cause, .. } => Some(cause),
    }
}

#[tokio::test]
async fn the_cause_is_that_of_now_and_the_log_tells_beginning_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = open(&path, 31).await;
    std::fs::remove_file(&path).unwrap();
    let said = heard(|| store.check_place());
    assert_eq!(cause(&store), Some(Cause::Gone));
    assert!(said[0].starts_with("cache out of use"), "{said:?}");

    std::fs::write(&path, [7; 9000]).unwrap();
    let said = heard(|| assert!(!store.heal()));
    assert_eq!(cause(&store), Some(Cause::Foreign));
    assert!(said[0].contains("not a cache store"), "{said:?}");
    let said = heard(|| assert!(!store.heal()));
    assert!(said.is_empty(), "the same again is no news: {said:?}");

    let owner = tempfile::tempdir().unwrap();
    let other = open(&owner.path().join("store"), 31).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(owner.path().join("store"), &path).unwrap();
    assert!(!store.heal());
    assert_eq!(cause(&store), Some(Cause::InUse));
    drop(other);
    std::fs::remove_file(&path).unwrap();

    let said = heard(|| assert!(store.heal()));
    assert_eq!(cause(&store), None);
    assert!(
        said.iter()
            .any(|line| line.starts_with("cache disk is back")),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_cache_of_another_size_is_emptied_aloud() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let open = |slots: u64| {
        let path = path.clone();
        let opener = move || {
            let disk = crate::disk::FileDisk::open_or_create(&path)?;
            Ok(Arc::new(disk) as Arc<dyn crate::disk::Disk>)
        };
        let boot = crate::disk::BootId([1; 16]);
        drop(Store::open_with(opener, slots * EXTENT_BYTES, boot).unwrap());
    };
    assert!(heard(|| open(31)).is_empty());
    assert!(heard(|| open(31)).is_empty());
    let said = heard(|| open(40));
    assert!(said[0].contains("another size was asked for"), "{said:?}");
}

/// The mount that held the file is gone: in the bare mount point there is another file system, not meant for a cache.
#[tokio::test]
async fn a_cache_whose_file_system_is_gone_is_not_made_anew_on_another() {
    let (ssd, root) = (
        tempfile::tempdir_in("/dev/shm").unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let path = root.path().join("cache");
    symlink(ssd.path().join("store"), &path).unwrap();
    let store = open(&path, 31).await;
    let below = root.path().join("mount");
    std::fs::create_dir(&below).unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink("mount/store", &path).unwrap();
    store.check_place();
    let said = heard(|| assert!(!store.heal()));
    assert_eq!(cause(&store), Some(Cause::Elsewhere));
    assert!(said[0].contains("on another file system"), "{said:?}");
    assert!(!below.join("store").exists());

    // Made anew where it was: there the file is missing because somebody removed it.
    std::fs::remove_file(ssd.path().join("store")).unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink(ssd.path().join("store"), &path).unwrap();
    assert!(store.heal() && ssd.path().join("store").exists());
    // A cache that is found is used wherever it is: a disk comes back under another number.
    std::fs::copy(ssd.path().join("store"), root.path().join("elsewhere")).unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    store.check_place();
    assert_eq!(cause(&store), Some(Cause::Gone));
    assert!(store.heal());
    assert_eq!(cause(&store), None);
}
