//! How a node uses its images: through cache and swarm, straight from their origins, or from its own disk alone. It can
//! be changed under running guests, and is kept in `DATA/modes/IMAGE.toml`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use vmthunder_swarm::manifest::Root;

use crate::attach::Attached;
use crate::config::check_name;
use crate::control::Progress;
use crate::instances::Off;
use crate::known::write_whole;
use crate::local::{FILL_RATE, LocalCopy, check_rate, sync_folder, watch};
use crate::node::Node;
use crate::status::{ImageStatus, ModeName};
use crate::switch::Now;

/// What can be asked of a node about an image.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImageRequest {
    /// Use it so from now on.
    Mode { name: String, mode: ModeName },
    /// Bring it here, and need its origin and peers no longer; answered when that is done or, if nobody waits, when it has
    /// begun.
    Release {
        name: String,
        rate: Option<u64>,
        wait: bool,
    },
}

/// How an image is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Through the cache and the swarm.
    #[default]
    Normal,
    /// Straight from its origin.
    Passthrough,
    /// From this node's disk, as soon as all of it is there.
    Released(Off),
}

/// The same as it is written; neither is as if nothing were.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    #[serde(default)]
    passthrough: bool,
    released: Option<Off>,
}

/// The modes of a node's images.
pub(crate) struct Modes {
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    modes: BTreeMap<String, Mode>,
    /// Why images could not be released.
    failures: BTreeMap<String, String>,
    /// A note could not be read.
    is_unsure: bool,
}

impl Modes {
    /// What the last run left; a note that cannot be read is as if it were not there, but nothing is removed then.
    pub(crate) fn open(folder: Option<PathBuf>) -> Self {
        let mut state = State::default();
        if let Some(Err(error)) = folder.as_deref().map(|folder| state.read(folder)) {
            error!("images are used as if nothing had been said of them: {error:#}");
            state.is_unsure = true;
        }
        Self {
            folder,
            state: Mutex::new(state),
        }
    }

    /// How an image is used.
    pub(crate) fn get(&self, image: &str) -> Mode {
        self.lock().modes.get(image).copied().unwrap_or_default()
    }

    /// The copies that released images use.
    pub(crate) fn released(&self) -> Vec<Off> {
        self.with(|_, off| Some(off))
    }

    /// False if nobody can tell of some image how it is used.
    pub(crate) fn is_sure(&self) -> bool {
        !self.lock().is_unsure
    }

    /// Writes down how an image is used: it is so after any death when this returns.
    fn set(&self, image: &str, mode: Mode) -> Result<()> {
        let folder = self.folder.as_deref();
        let folder = folder.context("a gateway has no images; `vmthunder serve` does")?;
        let path = folder.join(format!("{image}.toml"));
        let note = match mode {
            Mode::Normal => None,
            Mode::Passthrough => Some(Note {
                passthrough: true,
                released: None,
            }),
            Mode::Released(off) => Some(Note {
                passthrough: false,
                released: Some(off),
            }),
        };
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        match note {
            Some(note) => write_whole(&path, toml::to_string(&note)?.as_bytes())?,
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            },
        }
        sync_folder(folder)?;
        let mut state = self.lock();
        state.failures.remove(image);
        state.modes.insert(image.to_owned(), mode);
        Ok(())
    }

    fn with<T>(&self, chosen: impl Fn(&str, Off) -> Option<T>) -> Vec<T> {
        let state = self.lock();
        let modes = state.modes.iter();
        let chosen = modes.filter_map(|(image, mode)| match mode {
            Mode::Released(off) => chosen(image, *off),
            Mode::Normal | Mode::Passthrough => None,
        });
        chosen.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, folder: &Path) -> Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| folder.display().to_string())?,
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(image) = name.strip_suffix(".toml") else {
                continue;
            };
            let path = folder.join(&name);
            match read_note(&path).with_context(|| path.display().to_string()) {
                Ok(mode) => {
                    self.modes.insert(image.to_owned(), mode);
                }
                Err(error) => {
                    error!(
                        "the image `{image}` is used as if nothing had been said of it: {error:#}"
                    );
                    self.is_unsure = true;
                }
            }
        }
        Ok(())
    }
}

fn read_note(path: &Path) -> Result<Mode> {
    let mut text = String::new();
    File::open(path)?
        .take(MOST_NOTE_BYTES)
        .read_to_string(&mut text)?;
    match toml::from_str(&text)? {
        Note {
            passthrough: true,
            released: Some(_),
        } => bail!("it says two things at once"),
        Note {
            released: Some(off),
            ..
        } => Ok(Mode::Released(off)),
        Note { passthrough, .. } if passthrough => Ok(Mode::Passthrough),
        Note { .. } => Ok(Mode::Normal),
    }
}

impl Node {
    /// Carries a request out.
    pub(crate) async fn change_image(
        &self,
        request: ImageRequest,
        progress: &Progress,
    ) -> Result<ImageStatus> {
        match request {
            ImageRequest::Mode { name, mode } => self.set_mode(&name, mode).await,
            ImageRequest::Release { name, rate, wait } => {
                let root = self.release(&name, rate).await?;
                if wait {
                    let local = self.locals()?.get(root).context("it was taken back")?;
                    watch(&local, &name, progress).await?;
                    self.cut_released(root).await;
                }
                Ok(self.image_status(&*self.image(&name)?))
            }
        }
    }

    /// An image with all that the node knows of it.
    pub(crate) fn image_status(&self, image: &Attached) -> ImageStatus {
        let mode = self.modes.get(&image.name);
        let local = match mode {
            Mode::Released(off) => self.locals().ok().and_then(|locals| locals.get(off.root)),
            Mode::Normal | Mode::Passthrough => None,
        };
        ImageStatus {
            mode: match mode {
                Mode::Normal => ModeName::Normal,
                Mode::Passthrough => ModeName::Passthrough,
                Mode::Released(_) => ModeName::Released,
            },
            local: local.map(|local| local.status()),
            release_failure: self.modes.lock().failures.get(&image.name).cloned(),
            ..image.status(&self.hosts)
        }
    }

    /// The copy that an image is served from, whether or not its origin is there.
    pub(crate) fn released_copy(&self, image: &str) -> Option<Arc<LocalCopy>> {
        match self.modes.get(image) {
            Mode::Released(off) => self.locals().ok()?.get(off.root)?.copy(),
            Mode::Normal | Mode::Passthrough => None,
        }
    }

    /// Uses an image as its mode says.
    pub(crate) fn follow_mode(&self, image: &Attached) {
        let mode = self.modes.get(&image.name);
        let local = match mode {
            Mode::Released(off) if image.root == Some(off.root) => {
                self.locals().ok().and_then(|locals| locals.get(off.root))
            }
            _ => None,
        };
        for base in std::iter::once(&image.image).chain(&image.manifest) {
            if let Some(course) = base.course() {
                course.set(Now {
                    local: local.clone(),
                    is_direct: mode == Mode::Passthrough,
                });
            }
        }
    }

    async fn set_mode(&self, name: &str, mode: ModeName) -> Result<ImageStatus> {
        check_name("image", name)?;
        let locals = self.locals()?;
        let _users = locals.users.lock().await;
        let image = self.image(name);
        match mode {
            // Of an image that is not there any more, too.
            ModeName::Normal => self.modes.set(name, Mode::Normal)?,
            ModeName::Passthrough => {
                let is_file = image.as_ref().is_ok_and(|image| image.ties.is_none());
                ensure!(
                    !is_file,
                    "the image `{name}` is a file of this node: it has neither a cache nor peers"
                );
                if let Err(error) = image {
                    return Err(error);
                }
                self.modes.set(name, Mode::Passthrough)?;
            }
            ModeName::Released => bail!("`vmthunder image release {name}` does that"),
        }
        if let Ok(image) = &image {
            if let Some(ties) = &image.ties {
                ties.tie(&self.around, false);
            }
            self.follow_mode(image);
            info!(image = name, ?mode, "is used in another way");
        }
        self.keep_used(locals);
        Ok(self.image_status(&*image?))
    }

    /// Everything that can be refused is refused before anything is changed.
    async fn release(&self, name: &str, rate: Option<u64>) -> Result<Root> {
        rate.map_or(Ok(()), check_rate)?;
        check_name("image", name)?;
        let locals = self.locals()?;
        let _users = locals.users.lock().await;
        let image = self.image(name)?;
        let (root, before) = match self.modes.get(name) {
            Mode::Released(off) if image.root == Some(off.root) => (off.root, off.rate),
            _ => {
                let root = self.prepare_copy(locals, &image).await;
                let root = root.with_context(|| format!("`{name}` was not released"))?;
                (root, FILL_RATE)
            }
        };
        let rate = rate.unwrap_or(before);
        self.modes.set(name, Mode::Released(Off { root, rate }))?;
        locals.take(root, rate);
        self.follow_mode(&image);
        info!(image = name, "is released");
        Ok(root)
    }

    /// Leaves the origins and peers of released images whose copy is complete.
    pub(crate) async fn cut_released(&self, root: Root) {
        let Ok(locals) = self.locals() else { return };
        let _users = locals.users.lock().await;
        for image in self.images.all() {
            let is_released = image.root == Some(root) && self.released_copy(&image.name).is_some();
            if let Some(ties) = image.ties.as_ref().filter(|_| is_released) {
                ties.cut().await;
            }
        }
    }

    /// As if nobody had asked for it.
    pub(crate) fn give_up_release(&self, root: Root, cause: &str) {
        let of_root = |image: &str, off: Off| (off.root == root).then(|| image.to_owned());
        for name in self.modes.with(of_root) {
            if let Err(error) = self.modes.set(&name, Mode::Normal) {
                warn!(
                    image = name,
                    "is released again at the next start: {error:#}"
                );
            }
            let cause = cause.to_owned();
            self.modes.lock().failures.insert(name.clone(), cause);
            if let Ok(image) = self.image(&name) {
                self.follow_mode(&image);
            }
        }
    }
}

/// The longest note that is read.
const MOST_NOTE_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use vmthunder_swarm::manifest::Root;

    use super::{Mode, Modes};
    use crate::instances::Off;

    #[test]
    fn modes_are_kept_and_a_damaged_note_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Modes::open(Some(folder.path().join("modes")));
        let off = Off {
            root: Root([7; 32]),
            rate: 1 << 20,
        };
        let modes = open();
        modes.set("a", Mode::Passthrough).unwrap();
        modes.set("b", Mode::Released(off)).unwrap();
        modes.set("c", Mode::Passthrough).unwrap();
        modes.set("c", Mode::Normal).unwrap();
        let modes = open();
        assert_eq!(modes.get("a"), Mode::Passthrough);
        assert_eq!(modes.get("b"), Mode::Released(off));
        assert_eq!(modes.get("c"), Mode::Normal);
        assert_eq!(modes.released(), [off]);
        assert!(modes.is_sure());

        let both = fs::read_to_string(folder.path().join("modes/b.toml")).unwrap();
        for text in ["passthrough = 3", "\0", &both.replace("false", "true")] {
            fs::write(folder.path().join("modes/a.toml"), text).unwrap();
            let modes = open();
            assert_eq!(modes.get("a"), Mode::Normal, "{text}");
            assert_eq!(modes.get("b"), Mode::Released(off));
            assert!(!modes.is_sure(), "{text}");
        }
    }
}
