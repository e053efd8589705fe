//! An image as logical units, and what it tells about itself.

use iscsi_target::{Unit, UnitIdentity};
use vmthunder_swarm::fetch::Source;
use vmthunder_volume::Volume;

use crate::attach::Attached;
use crate::export::{Base, Export};
use crate::names;
use crate::origin::Reach;
use crate::portals::urls;
use crate::status::{ImageStatus, ModeName, OriginState, OriginStatus};

impl Attached {
    /// The image and its manifest as read-only logical units from a number on.
    pub(crate) fn units(&self, first: u16) -> Vec<Unit<Export>> {
        let designators = match &self.root {
            Some(root) => (root.image_designator(), root.manifest_designator()),
            None => (
                names::designator(&["image", &self.source]),
                names::designator(&["manifest", &self.source]),
            ),
        };
        let unit = |number, base: &Base, designator, product| {
            let volume = Export::Base(base.clone());
            Unit {
                read_only: true,
                // Every guest reads the same image: none may shut the others out.
                reservable: false,
                ..Unit::new(number, volume, UnitIdentity::new(designator, product))
            }
        };
        let mut units = vec![unit(first, &self.image, designators.0, "image")];
        let manifest = self.manifest.as_ref();
        units.extend(
            manifest.map(|base| unit(first.saturating_add(1), base, designators.1, "manifest")),
        );
        units
    }

    /// What was read of the image and its manifest, and where it came from.
    pub(crate) fn status(&self, hosts: &[String]) -> ImageStatus {
        let mut status = ImageStatus {
            name: self.name.clone(),
            source: self.source.clone(),
            bytes: self.image.geometry().bytes(),
            root: self.root.map(|root| root.to_string()),
            origin: None,
            mode: ModeName::Normal,
            local: None,
            release_failure: None,
            urls: urls(hosts, &names::image(&self.name), 0),
            from_cache: 0,
            from_peers: 0,
            from_origin: 0,
            corrupt: 0,
        };
        let (mut silent, mut wrong) = (None, 0);
        for base in std::iter::once(&self.image).chain(&self.manifest) {
            let Some(course) = base.course() else {
                continue;
            };
            let cache = &course.fetched;
            status.from_cache += cache.stats().hit_bytes;
            let swarm = cache.below().stats();
            silent = silent.max(swarm.origin_silent);
            wrong += swarm.origin_wrong;
            let direct = course.direct.as_ref().map(|direct| direct.stats());
            wrong += direct.as_ref().map_or(0, |direct| direct.origin_wrong);
            let direct = direct.into_iter().flat_map(|direct| direct.sources);
            for source in swarm.sources.into_iter().chain(direct) {
                status.corrupt += source.corrupt;
                match source.source {
                    Source::Origin => status.from_origin += source.bytes,
                    Source::Peer(_) => status.from_peers += source.bytes,
                }
            }
        }
        status.origin = self.ties.as_ref().map(|ties| OriginStatus {
            state: match (ties.late().reach(), silent) {
                (Reach::Away | Reach::Replaced, _) => OriginState::Away,
                (Reach::Here, Some(_)) => OriginState::Silent,
                (Reach::Here, None) if wrong > 0 => OriginState::Wrong,
                (Reach::Here, None) => OriginState::Here,
            },
            silent_seconds: silent.map_or(0, |silent| silent.as_secs()),
            wrong_extents: wrong,
        });
        status
    }
}
