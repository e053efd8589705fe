//! The instances of a running node: those that are served, and those that cannot be at the moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use vmthunder_cache::overlay::Overlay;

use super::{Description, Instances, Off};
use crate::export::Base;

/// All instances of a node.
pub(crate) struct Guests {
    /// Where they live; a mere gateway has none.
    folder: Option<Instances>,
    /// Held by whoever makes or removes instances.
    pub(super) names: tokio::sync::Mutex<()>,
    all: Mutex<BTreeMap<String, Arc<Guest>>>,
}

/// One instance.
pub(crate) struct Guest {
    pub(super) name: String,
    /// Held by whoever changes it: snapshots, rollbacks and the like come one after the other.
    pub(super) turn: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
    /// Why the last attempt to turn it off was given up.
    failure: Mutex<Option<String>>,
}

/// What an instance is at the moment.
#[derive(Clone)]
pub(crate) enum Now {
    /// Its guest can log in.
    Served {
        description: Description,
        overlay: Arc<Overlay<Base>>,
    },
    /// It waits for its image.
    Waiting { description: Description },
    /// It cannot be served.
    Broken {
        /// What it is, if anybody can tell.
        description: Option<Description>,
        cause: String,
    },
}

impl Guests {
    pub(crate) fn new(folder: Option<Instances>) -> Self {
        Self {
            folder,
            names: tokio::sync::Mutex::default(),
            all: Mutex::default(),
        }
    }

    /// The folder of instances.
    pub(crate) fn folder(&self) -> Result<&Instances> {
        self.folder
            .as_ref()
            .context("a gateway has no instances; `vmthunder serve` does")
    }

    /// All of them, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Guest>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Result<Arc<Guest>> {
        self.lock()
            .get(name)
            .cloned()
            .with_context(|| format!("there is no instance `{name}`"))
    }

    pub(super) fn add(&self, name: &str, now: Now) -> Arc<Guest> {
        let guest = Arc::new(Guest {
            name: name.to_owned(),
            turn: tokio::sync::Mutex::default(),
            now: Mutex::new(now),
            failure: Mutex::default(),
        });
        self.lock().insert(name.to_owned(), Arc::clone(&guest));
        guest
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Guest>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    pub(crate) fn now(&self) -> Now {
        self.now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set(&self, now: Now) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How it is turned off, if it is.
    pub(crate) fn off(&self) -> Option<Off> {
        self.now().description()?.off
    }

    /// Why the last attempt to turn it off was given up.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_failure(&self, cause: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }

    /// What was written to it, if it is served.
    pub(crate) fn overlay(&self) -> Option<Arc<Overlay<Base>>> {
        match self.now() {
            Now::Served { overlay, .. } => Some(overlay),
            Now::Waiting { .. } | Now::Broken { .. } => None,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is, and what was written to it.
    pub(super) fn served(&self) -> Result<(Description, Arc<Overlay<Base>>)> {
        match self.now() {
            Now::Served {
                description,
                overlay,
            } => Ok((description, overlay)),
            Now::Waiting { description } => bail!(
                "`{}` waits for its image `{}`, whose origin was never reached",
                self.name,
                description.image
            ),
            Now::Broken { cause, .. } => bail!("`{}` is not served: {cause}", self.name),
        }
    }
}

impl Now {
    /// What it is, if anybody can tell.
    pub(crate) fn description(&self) -> Option<&Description> {
        match self {
            Self::Served { description, .. } | Self::Waiting { description } => Some(description),
            Self::Broken { description, .. } => description.as_ref(),
        }
    }
}
