//! The store's promises one by one; its crash runs are in a file of their own.

use std::sync::Arc;

use bytes::Bytes;

use super::{Found, Store, StoreError};
use crate::ImageKey;
use crate::disk::{BootId, Disk};
use crate::format::{ENTRY_BYTES, Layout, TABLE_OFFSET};
use crate::map::Key;
use crate::testing::{CrashDisk, Machine};

const EXTENT: usize = 65536;
/// Room for a table and five slots.
const BYTES: u64 = 8192 + 6 * 65536;

#[derive(Clone, Debug)]
enum Step {
    Fill(u8, u32),
    Forget(u8),
    Close,
}

/// A node: a store, and what its images hold. The last extent of an image is short.
struct Node {
    machine: Arc<Machine>,
    disk: Arc<CrashDisk>,
    store: Option<Arc<Store>>,
    versions: [u8; 3],
}

impl Node {
    fn new() -> Self {
        let machine = Machine::new();
        let disk = CrashDisk::new(&machine);
        let mut node = Self {
            machine,
            disk,
            store: None,
            versions: [0; 3],
        };
        node.open();
        node
    }

    fn open(&mut self) {
        let disk: Arc<dyn Disk> = Arc::clone(&self.disk) as _;
        match Store::assemble(disk, BYTES, BootId([1; 16])) {
            Ok(store) => self.store = Some(store),
            Err(error) => assert!(self.machine.is_off(), "{error}"),
        }
    }

    fn restart(&mut self) {
        self.store = None;
        self.machine = Machine::new();
        self.disk = self.disk.after_kill(&self.machine);
        self.open();
        self.check();
    }

    fn content(&self, image: u8, extent: u32) -> Bytes {
        let length = if extent == 7 { 1536 } else { EXTENT };
        let tag = [
            image,
            u8::try_from(extent).unwrap(),
            self.versions[usize::from(image)],
            77,
        ];
        Bytes::from(tag.repeat(length / 4))
    }

    /// Whatever the store serves is right.
    fn check(&self) -> usize {
        let Some(store) = &self.store else {
            return 0;
        };
        let mut held = 0;
        for image in 0..3 {
            for extent in 0..8 {
                let key = Key {
                    image: store.image(key_of(image)).unwrap(),
                    extent,
                };
                let content = self.content(image, extent);
                let length = u32::try_from(content.len()).unwrap();
                let read = |found: &Found| store.read_wait(found, length, 0..content.len());
                if let Some(bytes) = store.find(key).and_then(|found| read(&found)) {
                    assert!(bytes == content, "image {image} extent {extent}");
                    held += 1;
                }
            }
        }
        held
    }

    fn step(&mut self, step: &Step) {
        let Some(store) = self.store.clone() else {
            return;
        };
        match step {
            Step::Fill(image, extent) => {
                let key = Key {
                    image: store.image(key_of(*image)).unwrap(),
                    extent: *extent,
                };
                store.fill(key, &self.content(*image, *extent));
            }
            Step::Forget(image) => match store.forget_now(key_of(*image)) {
                // From here on the image may have other content.
                Ok(_) => self.versions[usize::from(*image)] += 1,
                Err(_) => assert!(self.machine.is_off()),
            },
            Step::Close => {
                store.close_now().ok();
            }
        }
    }
}

fn key_of(image: u8) -> ImageKey {
    ImageKey([image + 1; 32])
}

#[test]
fn a_restart_is_warm_and_a_clean_one_believes() {
    let mut node = Node::new();
    (0..4).for_each(|extent| node.step(&Step::Fill(0, extent)));
    node.step(&Step::Close);
    node.restart();
    assert_eq!(node.check(), 4);
    assert_eq!(node.store.as_ref().unwrap().stats().unverified, 0);
    let disk: Arc<dyn Disk> = node.disk.after_kill(&Machine::new());
    let store = Store::assemble(disk, BYTES, BootId([1; 16])).unwrap();
    assert_eq!(
        (store.stats().resident, store.stats().unverified),
        (4, 4),
        "killed, so all must be hashed"
    );
}

#[test]
fn a_damaged_slot_is_dropped_after_an_unclean_stop() {
    let mut node = Node::new();
    (0..5).for_each(|extent| node.step(&Step::Fill(0, extent)));
    let second = Layout::within(BYTES).unwrap().slot_offset(1);
    node.disk.damage(second + 70);
    node.restart();
    let store = node.store.as_ref().unwrap();
    assert_eq!(
        (
            store.stats().corrupt,
            store.stats().resident,
            store.stats().unverified
        ),
        (1, 4, 0)
    );
    let key = |extent| Key {
        image: store.image(key_of(0)).unwrap(),
        extent,
    };
    assert_eq!(
        (0..5)
            .filter(|extent| store.find(key(*extent)).is_none())
            .count(),
        1
    );
}

#[test]
fn a_forgotten_image_does_not_come_back_as_its_own_twin() {
    let mut node = Node::new();
    node.step(&Step::Fill(0, 1));
    // As after a loss of power: the cleared entry of an earlier slot is back, and its data with it.
    let layout = Layout::within(BYTES).unwrap();
    let mut entry = [0; 64];
    node.disk
        .read_at(layout.entry_offset(0), &mut entry)
        .unwrap();
    node.disk.write_at(layout.entry_offset(3), &entry).unwrap();
    node.disk
        .write_at(layout.slot_offset(3), &node.content(0, 1))
        .unwrap();
    node.restart();
    assert_eq!(node.check(), 1);
    node.step(&Step::Forget(0));
    node.restart();
    assert_eq!(node.check(), 0);
}

#[test]
fn a_damaged_entry_costs_only_its_slot() {
    let mut node = Node::new();
    (0..5).for_each(|extent| node.step(&Step::Fill(0, extent)));
    node.disk.damage(TABLE_OFFSET + 2 * ENTRY_BYTES + 33);
    node.restart();
    assert_eq!(node.check(), 4);
}

#[test]
fn a_full_disk_drops_fills_and_takes_them_again_later() {
    let mut node = Node::new();
    node.machine.leave_pages(Some(20));
    (0..3).for_each(|extent| node.step(&Step::Fill(0, extent)));
    let store = node.store.clone().unwrap();
    assert_eq!((store.stats().resident, store.stats().fill_errors), (1, 2));
    assert_eq!(node.check(), 1);
    node.machine.leave_pages(None);
    (0..3).for_each(|extent| node.step(&Step::Fill(0, extent)));
    assert_eq!(node.check(), 3);
}

#[test]
fn a_fill_that_failed_half_way_is_not_believed_after_a_clean_stop() {
    for steps in 0..3 {
        let mut node = Node::new();
        (0..5).for_each(|extent| node.step(&Step::Fill(0, extent)));
        node.machine.cut_after(steps);
        node.step(&Step::Fill(1, 0));
        assert_eq!(node.store.as_ref().unwrap().stats().fill_errors, 1);
        node.machine.cut_after(1000);
        node.step(&Step::Close);
        node.restart();
        let store = node.store.as_ref().unwrap();
        assert_eq!((store.stats().unverified, store.stats().corrupt), (0, 0));
    }
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let machine = Machine::new();
    let disk = CrashDisk::new(&machine);
    disk.write_at(0, &[7; 100_000]).unwrap();
    let disk: Arc<dyn Disk> = disk;
    let refused = Store::assemble(Arc::clone(&disk), BYTES, BootId([1; 16]));
    assert!(matches!(refused, Err(StoreError::NotAStore)));
    let mut bytes = vec![0; 100_000];
    disk.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 100_000]);

    let small = Store::assemble(disk, 70_000, BootId([1; 16]));
    assert!(matches!(small, Err(StoreError::TooSmall)));
}

#[test]
fn another_size_is_laid_out_anew() {
    let node = Node::new();
    let disk: Arc<dyn Disk> = node.disk.after_kill(&Machine::new());
    let store = Store::assemble(disk, 2 * BYTES, BootId([1; 16])).unwrap();
    assert_eq!((store.stats().resident, store.stats().slots > 5), (0, true));
}

#[test]
fn a_store_that_finds_no_room_gives_back_what_it_took() {
    let machine = Machine::new();
    let disk: Arc<dyn Disk> = CrashDisk::new(&machine);
    machine.leave_pages(Some(2));
    let refused = Store::assemble(Arc::clone(&disk), BYTES, BootId([1; 16]));
    assert!(matches!(refused, Err(StoreError::Io(_))));
    assert_eq!(disk.size().unwrap(), 0);
    machine.leave_pages(None);
    Store::assemble(disk, BYTES, BootId([1; 16])).unwrap();
}

/// The bytes of docs/cache-format.md, spelled out.
#[test]
fn the_format_is_what_the_document_says() {
    let mut node = Node::new();
    node.step(&Step::Fill(2, 7));
    let mut head = [0; 44];
    node.disk.read_at(0, &mut head).unwrap();
    assert_eq!(&head[..16], b"VMTCACHE\x01\0\0\0\0\0\x01\0");
    assert_eq!(
        &head[16..40],
        [
            5, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0
        ]
    );
    let mut mark = [0; 28];
    node.disk.read_at(4096, &mut mark).unwrap();
    assert_eq!(&mark[..12], b"VMTCMARK\x01\0\0\0");
    assert_eq!(mark[12..28], [1; 16]);
    let mut entry = [0; 64];
    node.disk.read_at(8192, &mut entry).unwrap();
    assert_eq!(entry[..32], [3; 32]);
    assert_eq!(entry[32..44], [7, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0]);
    assert_eq!(
        entry[44..60],
        blake3::hash(&[2, 7, 0, 77].repeat(384)).as_bytes()[..16]
    );
    assert_eq!(entry[60..], crc32c::crc32c(&entry[..60]).to_le_bytes());
}
