//! Manifests of small images, byte by byte.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assert, proptest};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{
    Allocation, BlockSize, Class, Error, Extent, Geometry, Result, Span, Volume,
};

use super::{
    ExtentHash, ExtentHashes, Hashes, Header, ManifestError, UnverifiedHeader, ZERO_PAGE, build,
    manifest_geometry,
};

const EXTENT: usize = 65_536;

fn geometry(bytes: usize) -> Geometry {
    Geometry::of_bytes(BlockSize::B512, bytes as u64)
}

/// Three extents and a half block run: one of ones, one of zeros, one of twos, and 512 threes.
fn small_image() -> Vec<u8> {
    let mut bytes = vec![1; EXTENT];
    bytes.resize(2 * EXTENT, 0);
    bytes.resize(3 * EXTENT, 2);
    bytes.resize(3 * EXTENT + 512, 3);
    bytes
}

async fn manifest_of(image: Vec<u8>) -> (Header, MemVolume) {
    let geometry = geometry(image.len());
    let out = MemVolume::zeroed(manifest_geometry(geometry));
    let header = build(Arc::new(MemVolume::new(geometry, image)), &out, |_| {})
        .await
        .unwrap();
    (header, out)
}

#[tokio::test]
async fn the_layout_is_the_documented_one() {
    let (header, out) = manifest_of(small_image()).await;
    let bytes = out.contents();
    assert_eq!(bytes.len(), 2 * EXTENT);
    assert_eq!(&bytes[..16], b"VMTHUNDR\x01\0\0\0\0\x02\0\0");
    assert_eq!(&bytes[16..32], b"\0\x02\x03\0\0\0\0\0\0\0\x01\0\x01\0\0\0");
    let page = &bytes[EXTENT..];
    assert_eq!(&page[..32], blake3::hash(&[1; EXTENT]).as_bytes());
    assert_eq!(&page[32..64], [0; 32]);
    assert_eq!(&page[64..96], blake3::hash(&[2; EXTENT]).as_bytes());
    assert_eq!(&page[96..128], blake3::hash(&[3; 512]).as_bytes());
    assert!(page[128..].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[64..96], blake3::hash(page).as_bytes());
    let root = blake3::hash(&[&bytes[..32], &bytes[64..96]].concat());
    assert_eq!(&bytes[32..64], root.as_bytes());
    assert_eq!(header.root().0, *root.as_bytes());
    assert_eq!(&header.to_bytes()[..], &bytes[..EXTENT]);
}

#[test]
fn the_hash_of_a_zero_page_is_what_it_is() {
    assert_eq!(ZERO_PAGE, *blake3::hash(&[0; EXTENT]).as_bytes());
}

#[tokio::test]
async fn hashes_come_from_verified_pages() {
    let (header, out) = manifest_of(small_image()).await;
    let header = Arc::new(Header::read(&out, Some(&header.root())).await.unwrap());
    let hashes = Hashes::new(header.clone(), out, 1);
    let of = |extent| hashes.hash_of(Extent(extent), Class::Demand);
    assert_eq!(
        of(0).await.unwrap(),
        ExtentHash::Blake3(*blake3::hash(&[1; EXTENT]).as_bytes())
    );
    assert_eq!(of(1).await.unwrap(), ExtentHash::Zero);
    assert_eq!(
        of(3).await.unwrap(),
        ExtentHash::Blake3(*blake3::hash(&[3; 512]).as_bytes())
    );
    assert!(matches!(of(4).await, Err(Error::OutOfRange)));
    assert_eq!(
        hashes.manifest().reads(),
        2,
        "the header and the page, each once"
    );

    let damaged = hashes.manifest().contents();
    let mut damaged = damaged;
    damaged[EXTENT] ^= 1;
    let damaged = MemVolume::new(header.manifest_geometry(), damaged);
    let hashes = Hashes::new(header, damaged, 1);
    assert!(matches!(
        hashes.hash_of(Extent(2), Class::Demand).await,
        Err(Error::Corrupt)
    ));
}

/// An image of 300 MiB of which only the second extent is stored; reading anything else fails.
struct Sparse;

impl Volume for Sparse {
    fn geometry(&self) -> Geometry {
        geometry(300 << 20)
    }

    async fn read(&self, span: Span, _class: Class) -> Result<Bytes> {
        if span.offset() > 2 * EXTENT as u64 {
            return Err(Error::Corrupt);
        }
        let mut bytes = vec![0; usize::try_from(span.length()).unwrap()];
        if span.offset() == EXTENT as u64 {
            bytes[..EXTENT].fill(9);
        }
        Ok(bytes.into())
    }

    async fn write(&self, _offset: u64, _bytes: Bytes) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn trim(&self, _span: Span) -> Result<()> {
        Err(Error::ReadOnly)
    }

    async fn allocation(&self, span: Span) -> Result<(Allocation, Span)> {
        let (start, end) = (EXTENT as u64 + 512, 2 * EXTENT as u64);
        let (kind, stop) = match span.offset() {
            at if at < start => (Allocation::Hole, start),
            at if at < end => (Allocation::Mapped, end),
            _ => (Allocation::Hole, span.end()),
        };
        Ok((
            kind,
            Span::new(span.offset(), stop.min(span.end()) - span.offset()),
        ))
    }
}

#[tokio::test]
async fn holes_are_not_read() {
    let out = MemVolume::zeroed(manifest_geometry(Sparse.geometry()));
    let mut last = None;
    let header = build(Arc::new(Sparse), &out, |progress| last = Some(progress))
        .await
        .unwrap();
    let last = last.unwrap();
    assert_eq!(
        (last.done, last.total, last.zero),
        (300 << 20, 300 << 20, (300 << 20) - EXTENT as u64)
    );
    let page = &out.contents()[EXTENT..2 * EXTENT];
    assert_eq!(&page[..32], [0; 32]);
    let mut content = vec![9; EXTENT];
    content.resize(EXTENT, 9);
    assert_eq!(&page[32..64], blake3::hash(&content).as_bytes());
    assert_eq!(header.image_geometry().bytes(), 300 << 20);
}

#[tokio::test]
async fn another_or_a_damaged_header_is_refused() {
    let (header, out) = manifest_of(small_image()).await;
    let (other, _) = manifest_of(vec![7; EXTENT]).await;
    let bytes = out.contents();
    let parse =
        |bytes: &[u8]| UnverifiedHeader::parse(bytes).and_then(UnverifiedHeader::verify_checksum);
    assert_eq!(parse(&bytes).unwrap(), header);
    assert!(matches!(
        UnverifiedHeader::parse(&bytes)
            .unwrap()
            .verify(&other.root()),
        Err(ManifestError::Corrupt)
    ));
    assert!(matches!(parse(&bytes[..95]), Err(ManifestError::Short)));
    for at in 0..96 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(parse(&damaged).is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn designators_are_naa_3_and_differ() {
    let (header, _) = manifest_of(small_image()).await;
    let (image, manifest) = (
        header.root().image_designator(),
        header.root().manifest_designator(),
    );
    assert_eq!((image[0] >> 4, manifest[0] >> 4), (3, 3));
    assert_ne!(image, manifest);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        honest in 0usize..33,
    ) {
        let prefix = b"VMTHUNDR\x01\0\0\0\0\x02\0\0\0\x02\x03\0\0\0\0\0\0\0\x01\0\x01\0\0\0";
        let honest = honest.min(bytes.len()).min(prefix.len());
        bytes[..honest].copy_from_slice(&prefix[..honest]);
        if let Ok(unverified) = UnverifiedHeader::parse(&bytes) {
            prop_assert!(unverified.verify_checksum().is_err());
        }
    }
}
