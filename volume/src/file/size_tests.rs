use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::tests::{file_of, run};
use super::{Access, RawFile, Resize, ResizeError, Space};
use crate::{BlockSize, Class, Error, Span, Volume};

fn open(file: &tempfile::NamedTempFile, access: Access) -> std::io::Result<RawFile> {
    RawFile::open(file.path(), access, BlockSize::B512)
}

fn to(bytes: u64) -> Resize {
    Resize {
        bytes,
        space: Space::Sparse,
        shrink: false,
    }
}

fn down_to(bytes: u64) -> Resize {
    Resize {
        shrink: true,
        ..to(bytes)
    }
}

fn read(volume: &RawFile, offset: u64, length: u64) -> crate::Result<Bytes> {
    run(volume.read(Span::new(offset, length), Class::Demand))
}

#[test]
fn one_may_write_or_many_may_read() {
    let file = file_of(&[0; 4096]);
    let busy = |access| open(&file, access).unwrap_err();
    let writer = open(&file, Access::ReadWrite).unwrap();
    assert_eq!(
        busy(Access::ReadWrite).kind(),
        std::io::ErrorKind::ResourceBusy
    );
    assert_eq!(
        busy(Access::ReadWrite).to_string(),
        "in use: another program serves it"
    );
    assert_eq!(
        busy(Access::ReadOnly).to_string(),
        "in use: another program has it open for writing"
    );
    drop(writer);
    let readers = [(); 2].map(|()| open(&file, Access::ReadOnly).unwrap());
    assert_eq!(
        busy(Access::ReadWrite).kind(),
        std::io::ErrorKind::ResourceBusy
    );
    drop(readers);
    open(&file, Access::ReadWrite).unwrap();
}

#[test]
fn a_new_file_is_sparse_or_full_and_its_owner_s_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, space, least, most) in [
        ("sparse", Space::Sparse, 0, 64 * 1024),
        ("full", Space::Full, 1 << 20, 2 << 20),
    ] {
        let path = folder.path().join(name);
        let volume = RawFile::create(&path, 1 << 20, BlockSize::B4096, space).unwrap();
        assert_eq!(volume.geometry().blocks(), 256);
        run(volume.write(4096, vec![7; 4096].into())).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(found.len(), 1 << 20);
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        let taken = found.blocks() * 512;
        assert!((least..=most).contains(&taken), "{name}: {taken}");
    }
}

#[test]
fn a_file_that_is_there_is_not_created_again() {
    let file = file_of(&[9; 4096]);
    let create = |bytes| RawFile::create(file.path(), bytes, BlockSize::B512, Space::Sparse);
    let kind = |bytes| create(bytes).unwrap_err().kind();
    assert_eq!(kind(4096), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(file.path()).unwrap(), [9; 4096]);
    assert_eq!(kind(0), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(513), std::io::ErrorKind::InvalidInput);
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    // More than any file system holds, in whole blocks.
    let bytes = u64::MAX - 511;
    for space in [Space::Sparse, Space::Full] {
        RawFile::create(&path, bytes, BlockSize::B512, space).unwrap_err();
        assert!(!path.exists());
    }
}

#[test]
fn a_file_grows_while_it_is_open() {
    let file = file_of(&[1; 4096]);
    let volume = open(&file, Access::ReadWrite).unwrap();
    assert!(matches!(read(&volume, 4096, 512), Err(Error::OutOfRange)));
    assert_eq!(run(volume.resize(to(8192))).unwrap().bytes(), 8192);
    assert_eq!(volume.geometry().bytes(), 8192);
    assert_eq!(read(&volume, 3584, 1024).unwrap()[..], {
        let mut should = [0; 1024];
        should[..512].fill(1);
        should
    });
    run(volume.write(7680, vec![2; 512].into())).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().len(), 8192);
}

#[test]
fn a_full_file_takes_its_new_space_at_once() {
    let file = file_of(&[1; 4096]);
    let volume = open(&file, Access::ReadWrite).unwrap();
    let full = Resize {
        space: Space::Full,
        ..to(1 << 20)
    };
    run(volume.resize(full)).unwrap();
    assert!(file.as_file().metadata().unwrap().blocks() * 512 >= 1 << 20);
    let never = Resize {
        bytes: u64::MAX - 511,
        ..full
    };
    run(volume.resize(never)).unwrap_err();
    assert_eq!(file.as_file().metadata().unwrap().len(), 1 << 20);
    assert_eq!(volume.geometry().bytes(), 1 << 20);
}

#[test]
fn a_file_shrinks_only_when_that_is_meant() {
    let file = file_of(&[1; 8192]);
    let volume = open(&file, Access::ReadWrite).unwrap();
    assert_eq!(
        run(volume.resize(to(4096))).unwrap_err().to_string(),
        "4096 bytes are less than the 8192 that it has"
    );
    assert_eq!(volume.geometry().bytes(), 8192);
    run(volume.resize(down_to(4096))).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().len(), 4096);
    assert!(matches!(read(&volume, 4096, 512), Err(Error::OutOfRange)));
    assert!(matches!(
        run(volume.write(4096, vec![1; 512].into())),
        Err(Error::OutOfRange)
    ));
    assert!(matches!(
        run(volume.trim(Span::new(0, 4608))),
        Err(Error::OutOfRange)
    ));
}

#[test]
fn sizes_that_are_none_and_files_that_are_read_are_refused() {
    let file = file_of(&[1; 8192]);
    let volume = open(&file, Access::ReadWrite).unwrap();
    for bytes in [0, 511, 8193] {
        assert!(matches!(
            run(volume.resize(down_to(bytes))),
            Err(ResizeError::NoBlocks { block: 512, .. })
        ));
    }
    drop(volume);
    let volume = open(&file, Access::ReadOnly).unwrap();
    assert!(matches!(
        run(volume.resize(to(1 << 20))),
        Err(ResizeError::ReadOnly)
    ));
    assert_eq!(file.as_file().metadata().unwrap().len(), 8192);
}

#[test]
fn what_others_did_to_the_size_is_seen_when_asked() {
    let file = file_of(&[1; 8192]);
    let volume = open(&file, Access::ReadOnly).unwrap();
    file.as_file().set_len(16_384 + 100).unwrap();
    assert_eq!(volume.geometry().bytes(), 8192, "nobody looked yet");
    assert_eq!(run(volume.refresh(false)).unwrap().bytes(), 16_384);
    file.as_file().set_len(4096).unwrap();
    assert!(matches!(
        run(volume.refresh(false)),
        Err(ResizeError::Shrinks {
            from: 16_384,
            to: 4096
        })
    ));
    assert_eq!(run(volume.refresh(true)).unwrap().bytes(), 4096);
    assert!(matches!(read(&volume, 4096, 512), Err(Error::OutOfRange)));
}

#[test]
fn what_somebody_else_put_behind_the_end_is_not_cut_off_by_growing() {
    let file = file_of(&[1; 4096]);
    let volume = open(&file, Access::ReadWrite).unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    assert!(matches!(
        run(volume.resize(to(8192))),
        Err(ResizeError::Shrinks {
            from: 0x10_0000,
            to: 8192
        })
    ));
    assert_eq!(file.as_file().metadata().unwrap().len(), 1 << 20);
}

/// Tells threads to end, however the one that they serve does.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writers, trimmers and readers run while the file is cut and made long again. Whoever was under way must not make
/// the cut file long, and what a reader gets is the whole span or an error, never less.
#[test]
fn a_write_that_was_under_way_does_not_undo_a_cut() {
    cut_under_way(&file_of(&[1; 256 * 1024]));
}

/// The same where short writes are done in place.
#[test]
fn nor_does_a_write_into_memory() {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    std::io::Write::write_all(&mut file, &[1; 256 * 1024]).unwrap();
    cut_under_way(&file);
}

fn cut_under_way(file: &tempfile::NamedTempFile) {
    const LONG: u64 = 256 * 1024;
    const SHORT: u64 = 64 * 1024;
    let volume = open(file, Access::ReadWrite).unwrap();
    // Reads go the long way, through the pool, every other time.
    let done = AtomicBool::new(false);
    let refused = |result: crate::Result<()>| match result {
        Ok(()) | Err(Error::OutOfRange) => {}
        Err(error) => panic!("{error}"),
    };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (volume, done) = (&volume, &done);
            scope.spawn(move || {
                let mut turn = thread;
                while !done.load(Ordering::Relaxed) {
                    let offset = turn * 512 % LONG;
                    let span = Span::new(offset, 512);
                    match turn % 3 {
                        0 => refused(run(volume.write(offset, vec![1; 512].into()))),
                        1 => refused(run(volume.trim(span))),
                        _ => refused(read(volume, offset, 512).map(|got| {
                            assert_eq!(got.len(), 512);
                        })),
                    }
                    volume.inner.in_place.ask_again(turn % 2 == 0);
                    turn += 7;
                }
            });
        }
        let _end = End(&done);
        for _ in 0..200 {
            run(volume.resize(down_to(SHORT))).unwrap();
            assert_eq!(file.as_file().metadata().unwrap().len(), SHORT);
            run(volume.resize(to(LONG))).unwrap();
        }
    });
    assert_eq!(file.as_file().metadata().unwrap().len(), LONG);
}
