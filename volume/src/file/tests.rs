use std::io::Write;

use super::*;

pub(super) fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Runs a future to its end; the crate needs no runtime, so its tests use none.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
        {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn reads_what_was_written_and_refuses_what_lies_outside() {
    let file = file_of(&[0; 8192 + 100]);
    let volume = RawFile::open(file.path(), Access::ReadWrite, BlockSize::B512).unwrap();
    assert_eq!(
        volume.geometry().bytes(),
        8192,
        "a part of a block is no block"
    );

    run(volume.write(512, Bytes::from(vec![7; 1024]))).unwrap();
    run(volume.flush()).unwrap();
    let read = run(volume.read(Span::new(0, 2048), Class::Demand)).unwrap();
    assert_eq!(&read[..512], &[0; 512]);
    assert_eq!(&read[512..1536], &[7; 1024]);

    assert!(matches!(
        run(volume.read(Span::new(8192, 512), Class::Demand)),
        Err(Error::OutOfRange)
    ));
    assert!(matches!(
        run(volume.read(Span::new(1, 512), Class::Demand)),
        Err(Error::OutOfRange)
    ));
    assert!(matches!(
        run(volume.write(7680, Bytes::from(vec![7; 1024]))),
        Err(Error::OutOfRange)
    ));
}

#[test]
fn a_read_only_file_refuses_writes() {
    let file = file_of(&[1; 4096]);
    let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B4096).unwrap();
    assert!(matches!(
        run(volume.write(0, Bytes::from(vec![0; 4096]))),
        Err(Error::ReadOnly)
    ));
    assert!(matches!(
        run(volume.trim(Span::new(0, 4096))),
        Err(Error::ReadOnly)
    ));
    run(volume.flush()).unwrap();
}

#[test]
fn a_trimmed_span_is_a_hole_that_reads_as_zeros() {
    let file = file_of(&[9; 256 * 1024]);
    let volume = RawFile::open(file.path(), Access::ReadWrite, BlockSize::B512).unwrap();
    run(volume.trim(Span::new(65536, 65536))).unwrap();
    let read = run(volume.read(Span::new(65536, 65536), Class::Demand)).unwrap();
    assert!(read.iter().all(|byte| *byte == 0));
    let whole = volume.geometry().whole();
    assert_eq!(
        run(volume.allocation(whole)).unwrap(),
        (Allocation::Mapped, Span::new(0, 65536))
    );
    let rest = Span::new(65536, 3 * 65536);
    assert_eq!(
        run(volume.allocation(rest)).unwrap(),
        (Allocation::Hole, Span::new(65536, 65536))
    );
}

#[test]
fn what_is_no_disk_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), Path::new("/dev/zero")] {
        let error = RawFile::open(path, Access::ReadOnly, BlockSize::B512).unwrap_err();
        assert_eq!(error.to_string(), "neither a file nor a block device");
    }
}

#[test]
fn a_file_that_shrank_is_an_error_and_not_zeros() {
    let file = file_of(&[9; 8192]);
    let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B512).unwrap();
    file.as_file().set_len(4096).unwrap();
    assert!(matches!(
        run(volume.read(Span::new(4096, 512), Class::Demand)),
        Err(Error::Io(_))
    ));
}

#[test]
fn what_a_file_lost_is_no_hole() {
    let file = file_of(&[9; 8192]);
    let volume = RawFile::open(file.path(), Access::ReadOnly, BlockSize::B512).unwrap();
    file.as_file().set_len(2048).unwrap();
    file.as_file().set_len(4196).unwrap();
    let status = |offset, length| run(volume.allocation(Span::new(offset, length))).unwrap();
    assert_eq!(
        status(4096, 4096),
        (Allocation::Mapped, Span::new(4096, 4096)),
        "gone, but for a part of a block"
    );
    assert_eq!(
        status(0, 8192).0,
        Allocation::Mapped,
        "what is left is data"
    );
    file.as_file().set_len(0).unwrap();
    file.as_file().set_len(4196).unwrap();
    assert_eq!(
        status(512, 7680),
        (Allocation::Hole, Span::new(512, 3584)),
        "a hole, as far as the file goes"
    );
}
