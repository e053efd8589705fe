//! The configuration of a node: [`File`] as it is written, [`Config`] as it was checked.

mod access;
mod image;
mod limits;
mod outage;
mod refusal;
mod swarm;
mod target;
mod written;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytesize::ByteSize;
use serde::Deserialize;
use vmthunder_swarm::forest::NodeName;

pub(crate) use self::access::{Access, AccessSection, Chap, ChapSection, check_user, redirect};
use self::image::ImageSection;
pub(crate) use self::image::{Image, Source, beside};
pub(crate) use self::limits::{Limits, LimitsSection};
pub(crate) use self::outage::Outage;
use self::refusal::Refusal;
use self::swarm::SwarmSection;
pub(crate) use self::swarm::{EtcdConfig, MemberSource, SwarmConfig};
pub(crate) use self::target::{Disk, FileTarget, LunSection, TargetSection};
pub(crate) use self::written::algorithm;

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
    swarm: Option<SwarmSection>,
    #[serde(default)]
    target: Vec<TargetSection>,
    #[serde(default)]
    access: AccessSection,
    #[serde(default)]
    discovery: AccessSection,
    #[serde(default)]
    limits: LimitsSection,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CacheSection {
    #[serde(deserialize_with = "written::byte_size")]
    size: ByteSize,
    file: Option<PathBuf>,
}

impl Default for CacheSection {
    fn default() -> Self {
        Self {
            size: ByteSize::gib(8),
            file: None,
        }
    }
}

/// What a node is told to be, checked as far as that goes without touching disk or network.
#[derive(Debug)]
pub(crate) struct Config {
    /// The node's permanent name in the swarm.
    pub(crate) name: NodeName,
    /// Where the cache and the instances live; a mere gateway has none.
    pub(crate) data: Option<PathBuf>,
    /// The control socket; without one nobody can ask.
    pub(crate) control: Option<PathBuf>,
    /// Where persistent reservations are kept; else beside each file.
    pub(crate) state: Option<PathBuf>,
    /// The addresses that the target listens on.
    pub(crate) listen: Vec<String>,
    /// How large the cache may become.
    pub(crate) cache: ByteSize,
    /// The file, or block device, that holds it; a mere gateway has none.
    pub(crate) cache_file: Option<PathBuf>,
    /// The images that this node offers.
    pub(crate) images: Vec<Image>,
    /// The swarm that this node is in.
    pub(crate) swarm: Option<SwarmConfig>,
    /// The files that this node serves.
    pub(crate) targets: Vec<FileTarget>,
    /// Who may use images and instances.
    pub(crate) access: Access,
    /// Who may ask which targets there are.
    pub(crate) discovery: Access,
    /// How much initiators may ask for.
    pub(crate) limits: Limits,
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

    /// A gateway that serves one target and nothing else: what `vmthunder target` runs.
    pub(crate) fn gateway(gateway: Gateway) -> Result<Self> {
        let here = Path::new("");
        let targets = vec![gateway.target.check(here)?];
        target::check_all(&targets)?;
        Ok(Self {
            name: GATEWAY.parse()?,
            data: None,
            control: gateway.control,
            state: gateway.state,
            listen: gateway.listen,
            cache: CacheSection::default().size,
            cache_file: None,
            images: Vec::new(),
            swarm: None,
            targets,
            access: Access::default(),
            discovery: gateway.discovery.check(here)?,
            limits: gateway.limits.check()?,
        })
    }
}

/// What a gateway is called where a node has its name.
const GATEWAY: &str = "gateway";

/// A gateway as the command line describes it, in the sections of a configuration.
pub(crate) struct Gateway {
    pub(crate) listen: Vec<String>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) target: TargetSection,
    pub(crate) discovery: AccessSection,
    pub(crate) limits: LimitsSection,
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
        let images = images(self.image, folder)?;
        let swarm = self.swarm.map(|swarm| swarm.check(&self.name, folder));
        let swarm = swarm.transpose().context("`swarm`")?;
        let mut targets = Vec::new();
        for target in self.target {
            let name = target.name.clone();
            let checked = target.check(folder);
            targets.push(checked.with_context(|| format!("target `{name}`"))?);
        }
        target::check_all(&targets)?;
        let data = folder.join(self.data);
        let cache_file = self.cache.file.map(|file| folder.join(file));
        Ok(Config {
            name: self.name.parse()?,
            control: Some(data.join("control.sock")),
            state: Some(data.clone()),
            cache_file: Some(cache_file.unwrap_or_else(|| data.join("cache"))),
            data: Some(data),
            listen: self.listen,
            cache: self.cache.size,
            images,
            swarm,
            targets,
            access: self.access.check(folder).context("`access`")?,
            discovery: self.discovery.check(folder).context("`discovery`")?,
            limits: self.limits.check().context("`limits`")?,
        })
    }
}

fn images(sections: Vec<ImageSection>, folder: &Path) -> Result<Vec<Image>> {
    let mut names = HashSet::new();
    let mut images = Vec::new();
    for section in sections {
        let name = section.name.clone();
        ensure!(names.insert(name.clone()), "two images are named `{name}`");
        let image = section.check(folder);
        images.push(image.with_context(|| format!("image `{name}`"))?);
    }
    Ok(images)
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

#[cfg(test)]
mod tests;
