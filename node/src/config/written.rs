//! Values as they are written in a configuration; what is none is refused with an example.

use std::fmt::Display;
use std::str::FromStr;

use bytesize::ByteSize;
use iscsi_proto::login::Algorithm;
use serde::de::{Deserialize, Deserializer, Error};
use vmthunder_volume::BlockSize;

/// A number of bytes, or a text with a unit.
pub(super) fn byte_size<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    let read = match Written::deserialize(from) {
        Ok(Written::Bytes(bytes)) => Some(ByteSize::b(bytes)),
        Ok(Written::Text(text)) => text.parse().ok(),
        Err(_) => None,
    };
    read.ok_or_else(|| D::Error::custom("a size is a number of bytes or a text such as \"8 GiB\""))
}

/// The same, where it may be left out.
pub(super) fn some_byte_size<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<ByteSize>, D::Error> {
    byte_size(from).map(Some)
}

/// The size of a block.
pub(super) fn block_size<'de, D: Deserializer<'de>>(from: D) -> Result<BlockSize, D::Error> {
    let read = u32::deserialize(from).ok().and_then(BlockSize::from_bytes);
    read.ok_or_else(|| D::Error::custom("a block has 512 or 4096 bytes"))
}

/// A list of texts that mean something.
pub(super) fn list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(from)?;
    let parsed = |text: String| {
        text.parse()
            .map_err(|error| D::Error::custom(format!("`{text}`: {error}")))
    };
    texts.into_iter().map(parsed).collect()
}

/// A text that means something.
pub(super) fn one<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = String::deserialize(from)?;
    text.parse()
        .map_err(|error| D::Error::custom(format!("`{text}`: {error}")))
}

/// The same, where it may be left out.
pub(super) fn some<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    one(from).map(Some)
}

/// Hashes of CHAP.
pub(super) fn algorithms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Algorithm>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let parsed = |text: &String| algorithm(text).map_err(D::Error::custom);
    texts.iter().map(parsed).collect()
}

/// A hash of CHAP by its name.
pub(crate) fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "sha3-256" => Ok(Algorithm::Sha3_256),
        "sha256" => Ok(Algorithm::Sha256),
        "sha1" => Ok(Algorithm::Sha1),
        "md5" => Ok(Algorithm::Md5),
        _ => Err(format!(
            "`{text}` is no hash of CHAP: sha3-256, sha256, sha1 or md5"
        )),
    }
}
