//! `[[image]]`: images that a node offers.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytesize::ByteSize;
use iscsi_proto::url::IscsiUrl;
use serde::Deserialize;
use vmthunder_swarm::SwarmOptions;
use vmthunder_swarm::manifest::Root;

use super::{Outage, check_name, written};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ImageSection {
    pub(super) name: String,
    file: Option<PathBuf>,
    origin: Option<String>,
    secret_file: Option<PathBuf>,
    manifest: Option<PathBuf>,
    root: Option<String>,
    origin_reads: Option<u32>,
    #[serde(default, deserialize_with = "written::some_byte_size")]
    origin_rate: Option<ByteSize>,
    #[serde(default)]
    outage: Outage,
}

/// An image that a node offers.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its name: part of its target name.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) source: Source,
    /// How much of its origin is asked for at once, and in a second.
    pub(crate) swarm: SwarmOptions,
    /// What guests' reads do in an outage, if their instances do not say.
    pub(crate) outage: Outage,
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
        /// A file with the secret of the URL's user.
        secret_file: Option<PathBuf>,
        /// A manifest beside this configuration, for an origin that has none to offer.
        manifest: Option<PathBuf>,
        /// The only content that is accepted, whatever the origin says.
        root: Option<Root>,
    },
}

impl ImageSection {
    pub(super) fn check(self, folder: &Path) -> Result<Image> {
        check_name("image.name", &self.name)?;
        let swarm = self.budget()?;
        let manifest = self.manifest.map(|path| folder.join(path));
        let source = match (self.file, self.origin) {
            (Some(file), None) => {
                ensure!(
                    self.root.is_none() && self.secret_file.is_none(),
                    "`root` and `secret-file` belong to an image with an `origin`"
                );
                let path = folder.join(file);
                Source::File { path, manifest }
            }
            (None, Some(origin)) => {
                let url: IscsiUrl = origin.parse().with_context(|| {
                    // What stands before the @ may hold a secret.
                    let open = origin.rsplit('@').next().unwrap_or_default();
                    format!("`origin` is not an iSCSI URL: {open}")
                })?;
                ensure!(
                    url.target().is_some(),
                    "`origin` lacks the target's name: iscsi://HOST[:PORT]/TARGET/LUN"
                );
                ensure!(
                    url.secret().is_none(),
                    "`origin` holds a secret: leave the user there, and put the secret into a `secret-file`"
                );
                let secret_file = self.secret_file.map(|file| folder.join(file));
                ensure!(
                    url.user().is_some() == secret_file.is_some(),
                    "a user in `origin` and a `secret-file` need each other"
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
                    secret_file,
                    manifest,
                    root,
                }
            }
            _ => bail!("name either a `file` here or an `origin` elsewhere"),
        };
        Ok(Image {
            name: self.name,
            source,
            swarm,
            outage: self.outage,
        })
    }

    fn budget(&self) -> Result<SwarmOptions> {
        let mut swarm = SwarmOptions::default();
        ensure!(
            self.origin.is_some() || (self.origin_reads.is_none() && self.origin_rate.is_none()),
            "`origin-reads` and `origin-rate` belong to an image with an `origin`"
        );
        if let Some(reads) = self.origin_reads {
            swarm.origin_queue = NonZeroU32::new(reads)
                .filter(|reads| reads.get() <= MOST_READS)
                .with_context(|| {
                    format!("`origin-reads` is {reads}, it can be 1 to {MOST_READS}")
                })?;
        }
        if let Some(rate) = self.origin_rate {
            ensure!(
                rate >= LEAST_RATE,
                "`origin-rate` is {rate} in a second, the least is {LEAST_RATE}"
            );
            swarm.origin_bytes_per_second = NonZeroU64::new(rate.as_u64());
        }
        Ok(swarm)
    }
}

/// Reads at an origin at once: what a session of it lets through at most.
const MOST_READS: u32 = 4096;
/// The least rate that is of use: one extent in a second.
const LEAST_RATE: ByteSize = ByteSize::kib(64);

/// The manifest's place when none is named: beside the image.
pub(crate) fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".manifest");
    name.into()
}
