//! An image's origin: reached, identified, and used from the moment that it is there.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use iscsi_initiator::{Options, PathState, PathStatus, Remote, Session};
use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use vmthunder_swarm::manifest::{Header, ManifestError, Root};
use vmthunder_volume::{Class, Error, Geometry, Result, Span, Volume};

use crate::known::Identity;

/// A logical unit that holds an image, on any target.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) url: IscsiUrl,
    pub(crate) options: Options,
    /// The only content that is accepted, whatever the origin says.
    pub(crate) root: Option<Root>,
    /// The manifest that the configuration names, in the place of the origin's own.
    pub(crate) manifest: Option<Header>,
}

/// An origin that was reached.
pub(crate) struct Found {
    pub(crate) identity: Identity,
    image: Remote,
    /// The logical unit with the manifest's pages, where the origin has them.
    manifest: Option<Remote>,
}

/// Why an origin cannot be used.
pub(crate) enum Miss {
    /// It does not answer, or not sensibly: it may tomorrow.
    Away(anyhow::Error),
    /// It has other content than the configuration says.
    Wrong(anyhow::Error),
}

impl Origin {
    /// Logs in and finds out what is there.
    pub(crate) async fn find(&self) -> std::result::Result<Found, Miss> {
        let away = |error: iscsi_initiator::Error| Miss::Away(error.into());
        let session = Session::connect(&self.url, self.options.clone())
            .await
            .map_err(away)?;
        let lun = self.url.lun().unwrap_or(0);
        let image = Remote::attach(session.clone(), Lun::from_number(lun))
            .await
            .map_err(away)?;
        let own = match &self.manifest {
            Some(header) => Some((header.clone(), None)),
            None => self
                .own_manifest(&session, lun)
                .await?
                .map(|(header, pages)| (header, Some(pages))),
        };
        let Some((header, manifest)) = own else {
            if self.root.is_some() {
                let error =
                    "`root` is given, but the origin has no manifest to prove its content with";
                return Err(Miss::Wrong(anyhow!(error)));
            }
            let identity = self.unsealed(&image);
            return Ok(Found {
                identity,
                image,
                manifest: None,
            });
        };
        check_geometry(&header, &image).map_err(Miss::Wrong)?;
        Ok(Found {
            identity: Identity::sealed(header),
            image,
            manifest,
        })
    }

    /// Our own origins serve a manifest as the next logical unit; a foreign target has another disk there, or none.
    async fn own_manifest(
        &self,
        session: &Session,
        lun: u16,
    ) -> std::result::Result<Option<(Header, Remote)>, Miss> {
        let Some(lun) = lun.checked_add(1) else {
            return Ok(None);
        };
        let Ok(pages) = Remote::attach(session.clone(), Lun::from_number(lun)).await else {
            return Ok(None);
        };
        match Header::read(&pages, self.root.as_ref()).await {
            Ok(header) => Ok(Some((header, pages))),
            Err(ManifestError::Magic | ManifestError::Short) => Ok(None),
            Err(ManifestError::Volume(error)) => Err(Miss::Away(error.into())),
            Err(ManifestError::Corrupt) if self.root.is_some() => Err(Miss::Wrong(anyhow!(
                "the origin's manifest is damaged, or for another content than `root` names"
            ))),
            Err(error) => Err(Miss::Wrong(anyhow!("the origin's manifest: {error}"))),
        }
    }

    /// The identity of an image without a manifest is the origin's URL, designators and size: when one changes, what
    /// is cached no longer counts.
    fn unsealed(&self, image: &Remote) -> Identity {
        let geometry = image.geometry();
        let mut identity = blake3::Hasher::new();
        identity.update(self.url.to_string().as_bytes());
        identity.update(&geometry.bytes().to_le_bytes());
        for designator in image.designators() {
            identity.update(&designator.value);
        }
        Identity::unsealed(geometry, *identity.finalize().as_bytes())
    }
}

fn check_geometry(header: &Header, image: &Remote) -> anyhow::Result<()> {
    let (said, is) = (header.image_geometry(), image.geometry());
    ensure!(
        said.bytes() == is.bytes(),
        "the manifest is for {} bytes, the origin has {}",
        said.bytes(),
        is.bytes()
    );
    ensure!(
        said.block_size() == is.block_size(),
        "the manifest and the origin differ in block size"
    );
    Ok(())
}

/// The logical units of an origin, while it is there.
#[derive(Debug, Default)]
pub(crate) struct Late {
    units: RwLock<Option<Units>>,
}

#[derive(Debug)]
struct Units {
    image: Remote,
    manifest: Option<Remote>,
}

/// How an origin is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is connected.
    Here,
    /// It is not at the moment, and comes back by itself, or it was not reached yet.
    Away,
    /// What is in its place now is another unit: it has to be looked for again.
    Replaced,
}

impl Late {
    /// It is there now.
    pub(crate) fn here(&self, found: Found) {
        let (image, manifest) = (found.image, found.manifest);
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        *units = Some(Units { image, manifest });
    }

    /// Logs out of it.
    pub(crate) async fn leave(&self) {
        let units = self
            .units
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Units { image, manifest }) = units {
            image.close().await;
            if let Some(manifest) = manifest {
                manifest.close().await;
            }
        }
    }

    /// How it is reached.
    pub(crate) fn reach(&self) -> Reach {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        let Some(units) = units.as_ref() else {
            return Reach::Away;
        };
        let replaced = |path: &PathStatus| matches!(path.state, PathState::Refused(_));
        let connected = |path: &PathStatus| matches!(path.state, PathState::Connected);
        let mut remotes = std::iter::once(&units.image).chain(&units.manifest);
        if remotes.any(|remote| remote.paths().iter().any(replaced)) {
            return Reach::Replaced;
        }
        match units.image.paths().iter().any(connected) {
            true => Reach::Here,
            false => Reach::Away,
        }
    }

    fn unit(&self, is_manifest: bool) -> Option<Remote> {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        let units = units.as_ref()?;
        match is_manifest {
            true => units.manifest.clone(),
            false => Some(units.image.clone()),
        }
    }
}

/// One logical unit of an origin that may not be there yet: until then it is unavailable.
#[derive(Clone, Debug)]
pub(crate) struct LateVolume {
    late: Arc<Late>,
    geometry: Geometry,
    is_manifest: bool,
}

impl LateVolume {
    /// The image.
    pub(crate) fn image(late: &Arc<Late>, geometry: Geometry) -> Self {
        Self {
            late: Arc::clone(late),
            geometry,
            is_manifest: false,
        }
    }

    /// The pages of its manifest.
    pub(crate) fn manifest(late: &Arc<Late>, geometry: Geometry) -> Self {
        Self {
            is_manifest: true,
            ..Self::image(late, geometry)
        }
    }
}

impl Volume for LateVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn read(&self, span: Span, class: Class) -> Result<Bytes> {
        let unit = self.late.unit(self.is_manifest);
        match unit.ok_or(Error::Unavailable)?.read(span, class).await {
            Err(Error::Corrupt) if self.late.reach() == Reach::Replaced => Err(Error::Unavailable),
            result => result,
        }
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
}
