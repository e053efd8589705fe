//! The configuration of a node: [`File`] as it is written, [`Config`] as it was checked.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use iscsi_proto::url::IscsiUrl;
use serde::Deserialize;
use vmthunder_swarm::forest::NodeName;
use vmthunder_swarm::manifest::Root;

/// The least cache that is of use: the extents of a small boot.
const LEAST_CACHE: ByteSize = ByteSize::mib(16);

/// The configuration as it is written; unknown keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    data: PathBuf,
    listen: Vec<String>,
    #[serde(default)]
    cache: CacheSection,
    #[serde(default)]
    image: Vec<ImageSection>,
    #[serde(default)]
    member: Vec<MemberSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheSection {
    #[serde(deserialize_with = "byte_size")]
    size: ByteSize,
}

/// A number of bytes, or a text with a unit; what is neither is refused with an example.
fn byte_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
    #[derive(Deserialize)]
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
    read.ok_or_else(|| {
        serde::de::Error::custom("a size is a number of bytes or a text such as \"8 GiB\"")
    })
}

impl Default for CacheSection {
    fn default() -> Self {
        Self {
            size: ByteSize::gib(8),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageSection {
    name: String,
    file: Option<PathBuf>,
    origin: Option<String>,
    manifest: Option<PathBuf>,
    root: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberSection {
    name: String,
    address: String,
}

/// What a node is told to be, checked as far as that goes without touching disk or network.
#[derive(Debug)]
pub(crate) struct Config {
    /// The node's permanent name in the swarm.
    pub(crate) name: NodeName,
    /// Where the cache, the instances and the control socket live.
    pub(crate) data: PathBuf,
    /// The addresses that the target listens on.
    pub(crate) listen: Vec<String>,
    /// How large the cache may become.
    pub(crate) cache: ByteSize,
    /// The images that this node offers.
    pub(crate) images: Vec<Image>,
    /// The other nodes of the swarm.
    pub(crate) members: Vec<Member>,
}

/// An image that a node offers.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its name: part of its target name.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Where an image comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A raw file here: this node is an origin.
    File {
        /// The image.
        path: PathBuf,
        /// Its manifest, if one is named: it must be there. Else the file beside the image, if there is one.
        manifest: Option<PathBuf>,
    },
    /// A logical unit elsewhere.
    Origin {
        /// The logical unit.
        url: IscsiUrl,
        /// A manifest beside this configuration, for an origin that has none to offer.
        manifest: Option<PathBuf>,
        /// The only content that is accepted, whatever the origin says.
        root: Option<Root>,
    },
}

/// Another node of the swarm.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its permanent name.
    pub(crate) name: NodeName,
    /// Where its target listens: HOST:PORT.
    pub(crate) address: String,
}

impl Config {
    /// Reads and checks a configuration. Paths in it are relative to the file's own folder.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::parse(&text, &path.display().to_string(), folder)
    }

    fn parse(text: &str, name: &str, folder: &Path) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| Refusal::new(name, text, &error))?;
        file.check(folder)
            .with_context(|| format!("{name} is not a valid configuration"))
    }

    /// The control socket of the node.
    pub(crate) fn control(&self) -> PathBuf {
        self.data.join("control.sock")
    }
}

impl File {
    fn check(self, folder: &Path) -> Result<Config> {
        check_name("name", &self.name)?;
        ensure!(
            !self.listen.is_empty(),
            "`listen` is empty: name at least one address, for example \"0.0.0.0:3260\""
        );
        ensure!(
            self.cache.size >= LEAST_CACHE,
            "`cache.size` is {}, the least is {LEAST_CACHE}",
            self.cache.size
        );
        let mut names = HashSet::new();
        let mut images = Vec::new();
        for image in self.image {
            ensure!(
                names.insert(image.name.clone()),
                "two images are named `{}`",
                image.name
            );
            let name = image.name.clone();
            images.push(
                image
                    .check(folder)
                    .with_context(|| format!("image `{name}`"))?,
            );
        }
        let mut others = HashSet::from([self.name.clone()]);
        let mut members = Vec::new();
        for MemberSection { name, address } in self.member {
            check_name("member.name", &name)?;
            // One list serves every node: a node leaves itself out.
            if name == self.name {
                continue;
            }
            ensure!(
                others.insert(name.clone()),
                "two members are named `{name}`"
            );
            let portal = IscsiUrl::at(&address)
                .with_context(|| format!("member `{name}`: `{address}` is not HOST[:PORT]"))?;
            members.push(Member {
                name: name.parse()?,
                address: portal.address(),
            });
        }
        let data = folder.join(self.data);
        Ok(Config {
            name: self.name.parse()?,
            data,
            listen: self.listen,
            cache: self.cache.size,
            images,
            members,
        })
    }
}

impl ImageSection {
    fn check(self, folder: &Path) -> Result<Image> {
        check_name("image.name", &self.name)?;
        let manifest = self.manifest.map(|path| folder.join(path));
        let source = match (self.file, self.origin) {
            (Some(file), None) => {
                ensure!(
                    self.root.is_none(),
                    "`root` belongs to an image with an `origin`"
                );
                let path = folder.join(file);
                Source::File { path, manifest }
            }
            (None, Some(origin)) => {
                let url: IscsiUrl = origin
                    .parse()
                    .with_context(|| format!("`origin` is not an iSCSI URL: {origin}"))?;
                ensure!(
                    url.target().is_some(),
                    "`origin` lacks the target's name: iscsi://HOST[:PORT]/TARGET/LUN"
                );
                ensure!(
                    url.user().is_none(),
                    "`origin` names a user, but authentication is not supported yet"
                );
                let root = self
                    .root
                    .as_deref()
                    .map(blake3::Hash::from_hex)
                    .transpose()
                    .context("`root`")?;
                let root = root.map(|hash| Root(*hash.as_bytes()));
                Source::Origin {
                    url,
                    manifest,
                    root,
                }
            }
            _ => bail!("name either a `file` here or an `origin` elsewhere"),
        };
        Ok(Image {
            name: self.name,
            source,
        })
    }
}

/// The manifest's place when none is named: beside the image.
pub(crate) fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".manifest");
    name.into()
}

/// Names become parts of iSCSI names and of paths: letters, digits, `-` and `.`, at most 63.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    ensure!(
        first && name.len() <= 63 && name.bytes().all(good),
        "`{what}` is `{name}`: use 1 to 63 of a-z, 0-9, `-` and `.`, beginning with a letter or digit"
    );
    Ok(())
}

/// Why a file is no configuration: place, cause, and what was probably meant.
#[derive(Debug)]
struct Refusal {
    place: String,
    cause: String,
    meant: Option<String>,
}

impl Refusal {
    fn new(name: &str, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start));
        let place = match before {
            Some(before) => format!("{name}:{}", before.matches('\n').count() + 1),
            None => name.to_owned(),
        };
        let cause = error.message().to_owned();
        Self {
            place,
            meant: suggestion(&cause),
            cause,
        }
    }
}

/// The known key nearest to an unknown one, taken from serde's message: the first word in backquotes is the unknown
/// key, the others are the known ones.
fn suggestion(message: &str) -> Option<String> {
    if !message.starts_with("unknown field") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let nearest = words.min_by_key(|known| strsim::damerau_levenshtein(unknown, known))?;
    (strsim::damerau_levenshtein(unknown, nearest) <= nearest.len().max(3) / 2)
        .then(|| nearest.to_owned())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, "node.toml", Path::new("/etc/vmthunder"))
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    const HEAD: &str = "name = \"n1\"\ndata = \"/var/lib/vmthunder\"\nlisten = [\"127.0.0.1:0\"]\n";

    #[test]
    fn a_whole_configuration_is_read() {
        let config = parse(&format!(
            "{HEAD}[cache]\nsize = \"1 GiB\"\n[[image]]\nname = \"a\"\nfile = \"a.raw\"\n[[image]]\nname = \"b\"\n\
             origin = \"iscsi://10.0.0.1/iqn.2026-11.org.example:b/1\"\n[[member]]\nname = \"n1\"\n\
             address = \"10.0.0.1:3260\"\n[[member]]\nname = \"n2\"\naddress = \"10.0.0.2:3260\"\n"
        ))
        .unwrap();
        assert_eq!(config.cache.as_u64(), 1 << 30);
        assert_eq!(
            config.members.len(),
            1,
            "a node is no member of its own list"
        );
        let Source::File { path, manifest } = &config.images[0].source else {
            panic!("a file")
        };
        assert_eq!(path, Path::new("/etc/vmthunder/a.raw"));
        assert_eq!(manifest.as_deref(), None);
        assert_eq!(beside(path), Path::new("/etc/vmthunder/a.raw.manifest"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_suggestion() {
        let text = HEAD.replace("listen", "lisen");
        let refusal = refusal(&text);
        assert!(
            refusal.starts_with("node.toml:3: unknown field `lisen`"),
            "{refusal}"
        );
        assert!(refusal.ends_with("did you mean `listen`?"), "{refusal}");
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        assert!(refusal(&HEAD.replace("n1", "N 1/..")).contains("`name` is `N 1/..`"));
        assert!(refusal(&HEAD.replace("\"127.0.0.1:0\"", "")).contains("`listen` is empty"));
        assert!(refusal(&format!("{HEAD}[cache]\nsize = \"1 KiB\"\n")).contains("the least is"));
        for size in ["\"8 GGiB\"", "true", "-1"] {
            let refusal = refusal(&format!("{HEAD}[cache]\nsize = {size}\n"));
            assert!(
                refusal.starts_with("node.toml:5: a size is a number"),
                "{refusal}"
            );
        }
        assert!(refusal(&format!("{HEAD}[[image]]\nname = \"a\"\n")).contains("either a `file`"));
        let member = |address| {
            refusal(&format!(
                "{HEAD}[[member]]\nname = \"n2\"\naddress = \"{address}\"\n"
            ))
        };
        assert!(member("::1").contains("`::1` is not HOST[:PORT]"));
        assert!(member("n2:none").contains("not a number from 1 to 65535"));
        let origin =
            "[[image]]\nname = \"a\"\norigin = \"iscsi://me%s@h/iqn.2026-11.org.example:a/0\"\n";
        assert!(refusal(&format!("{HEAD}{origin}")).contains("names a user"));
        let twice = "[[image]]\nname = \"a\"\nfile = \"x\"\n".repeat(2);
        assert!(refusal(&format!("{HEAD}{twice}")).contains("two images"));
    }
}
