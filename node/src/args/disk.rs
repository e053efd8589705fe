//! A file and how it is served: `disk.raw,read-only,block-size=4096`.

use std::path::PathBuf;

use bytesize::ByteSize;
use vmthunder_volume::{BlockSize, Space};

use super::byte_size;

/// What can follow a file's name.
const OPTIONS: [&str; 10] = [
    "read-only",
    "writable",
    "removable",
    "fixed",
    "thin",
    "full",
    "block-size",
    "size",
    "serial",
    "lun",
];

/// A file to export. What is none was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskArg {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its number.
    pub(crate) number: Option<u16>,
    /// Whether writes are refused.
    pub(crate) read_only: Option<bool>,
    /// Whether the medium can be ejected.
    pub(crate) removable: Option<bool>,
    /// When it takes its space.
    pub(crate) space: Option<Space>,
    /// The size of its blocks.
    pub(crate) block_size: Option<BlockSize>,
    /// Its size.
    pub(crate) size: Option<ByteSize>,
    /// What it is recognised by.
    pub(crate) serial: Option<String>,
}

impl DiskArg {
    /// Reads `FILE[,OPTION...]`; two commas are one of the file's name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut words = words(text).into_iter();
        let mut disk = Self {
            file: words.next().unwrap_or_default().into(),
            ..Self::default()
        };
        if disk.file.as_os_str().is_empty() {
            return Err("it names no file".to_owned());
        }
        for word in words {
            disk.take(&word)?;
        }
        Ok(disk)
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match (name, value) {
            ("read-only" | "ro", None) => once(name, &mut self.read_only, true),
            ("writable" | "rw", None) => once(name, &mut self.read_only, false),
            ("removable", None) => once(name, &mut self.removable, true),
            ("fixed", None) => once(name, &mut self.removable, false),
            ("thin", None) => once(name, &mut self.space, Space::Sparse),
            ("full", None) => once(name, &mut self.space, Space::Full),
            ("block-size", Some(value)) => {
                let value =
                    block_size(value).map_err(|cause| format!("`block-size` is {cause}"))?;
                once(name, &mut self.block_size, value)
            }
            ("size", Some(value)) => {
                let value = byte_size(value).map_err(|cause| format!("`size` is {cause}"))?;
                once(name, &mut self.size, value)
            }
            ("serial", Some(value)) => once(name, &mut self.serial, value.to_owned()),
            ("lun", Some(value)) => {
                let value = value.parse().map_err(|_| "`lun` is a number".to_owned())?;
                once(name, &mut self.number, value)
            }
            (name, None) if ["block-size", "size", "serial", "lun"].contains(&name) => {
                Err(format!("`{name}` needs a value: {name}=..."))
            }
            (name, Some(_)) if OPTIONS.contains(&name) || ["ro", "rw"].contains(&name) => {
                Err(format!("`{name}` takes no value"))
            }
            _ => Err(unknown(name)),
        }
    }
}

/// The size of a block, from its number of bytes.
pub(super) fn block_size(text: &str) -> Result<BlockSize, String> {
    text.parse()
        .ok()
        .and_then(BlockSize::from_bytes)
        .ok_or_else(|| "512 or 4096".to_owned())
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!(
            "`{name}` contradicts or repeats what was said before"
        )),
    }
}

fn unknown(name: &str) -> String {
    let nearest = OPTIONS
        .into_iter()
        .min_by_key(|known| strsim::damerau_levenshtein(name, known))
        .filter(|known| strsim::damerau_levenshtein(name, known) <= known.len().max(3) / 2);
    match nearest {
        Some(known) => format!("`{name}` is no option of a file; did you mean `{known}`?"),
        None => format!(
            "`{name}` is none of the options of a file: {}; a comma in a file's name is written twice",
            OPTIONS.join(", ")
        ),
    }
}

/// Cuts at single commas, and makes one of two.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match (character, words.last_mut()) {
            (',', Some(word)) if rest.next_if_eq(&',').is_some() => word.push(','),
            (',', _) => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        DiskArg::parse(text).unwrap_err()
    }

    #[test]
    fn what_follows_a_file_is_read() {
        let disk =
            DiskArg::parse("/srv/a.raw,ro,removable,full,block-size=4096,size=1GiB,serial=x,lun=7");
        let all = DiskArg {
            file: "/srv/a.raw".into(),
            number: Some(7),
            read_only: Some(true),
            removable: Some(true),
            space: Some(Space::Full),
            block_size: Some(BlockSize::B4096),
            size: Some(ByteSize::gib(1)),
            serial: Some("x".to_owned()),
        };
        assert_eq!(disk.unwrap(), all);
        let others = DiskArg::parse("a,writable,fixed,thin").unwrap();
        assert_eq!(others.read_only, Some(false));
        assert_eq!(others.removable, Some(false));
        assert_eq!(others.space, Some(Space::Sparse));
        assert_eq!(
            DiskArg::parse("a,,b,,.raw").unwrap(),
            DiskArg {
                file: "a,b,.raw".into(),
                ..DiskArg::default()
            }
        );
    }

    #[test]
    fn what_is_none_says_so() {
        assert_eq!(
            refusal("a,removeable"),
            "`removeable` is no option of a file; did you mean `removable`?"
        );
        assert!(refusal("my,disk.raw").contains("a comma in a file's name is written twice"));
        assert_eq!(refusal("a,block-size=1024"), "`block-size` is 512 or 4096");
        assert_eq!(refusal("a,size"), "`size` needs a value: size=...");
        assert_eq!(refusal("a,full=yes"), "`full` takes no value");
        assert_eq!(
            refusal("a,ro,rw"),
            "`rw` contradicts or repeats what was said before"
        );
        assert_eq!(refusal(",ro"), "it names no file");
        assert!(refusal("a,size=huge").contains("for example 20GiB"));
    }
}
