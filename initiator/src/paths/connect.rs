//! Making a volume of all the ways that lead to a unit.

use std::sync::Arc;

use iscsi_proto::url::IscsiUrl;
use iscsi_proto::wire::lun::Lun;
use tokio::task::JoinSet;

use super::Paths;
use super::access::Access;
use super::keeper::{Keeper, Opened, open};
use super::path::Path;
use super::set::PathSet;
use super::unit::UnitName;
use crate::identity::Identity;
use crate::{Error, Options, Outage, Remote, Session, discover};

impl Remote {
    /// The logical unit that all these URLs lead to, as one volume: one path for each URL, through as many portals and
    /// targets as there are. A URL without a unit number means unit 0. With one URL it is as if the unit had been
    /// [attached](Self::attach) to a session of its own.
    ///
    /// At least one path has to work; others that cannot be reached are tried again behind the scenes.
    /// [`Error::OtherUnit`] if two of them lead to different units, [`Error::NamelessUnit`] if the unit says nothing that
    /// would show it, [`Error::PathCount`] for no URL or too many. What happens when no path is left is said by
    /// [`Reconnect::outage`](crate::Reconnect::outage), and how commands are spread by [`Options::path_policy`].
    pub async fn connect(urls: &[IscsiUrl], options: Options) -> Result<Self, Error> {
        let urls = distinct(urls);
        match urls.as_slice() {
            [url] => {
                let session = Session::connect(url, options).await?;
                Self::attach(session, lun_of(url)).await
            }
            urls if (1..=MOST_PATHS).contains(&urls.len()) => connect_all(urls, options).await,
            urls => Err(Error::PathCount(urls.len())),
        }
    }
}

/// All the portals of a target, each as the URL that leads to the same unit there: what SendTargets answers at the URL's
/// own portal, with that portal first. Portals that the target does not name any more, or that cannot be reached from
/// here, do no harm in [`Remote::connect`].
pub async fn find_portals(url: &IscsiUrl, options: &Options) -> Result<Vec<IscsiUrl>, Error> {
    let target = url.target().ok_or(Error::BadAddress)?;
    let options = options.clone().with_user_of(url)?;
    let records = discover(&url.address(), &options).await?;
    let own = records.into_iter().filter(|record| record.name == *target);
    let mut portals = vec![url.clone()];
    for (place, _) in own.flat_map(|record| record.addresses) {
        let portal = url.moved_to(&place).map_err(|_| Error::BadAddress)?;
        if portals.len() < MOST_PATHS && !portals.contains(&portal) {
            portals.push(portal);
        }
    }
    Ok(portals)
}

async fn connect_all(urls: &[IscsiUrl], options: Options) -> Result<Remote, Error> {
    let paths: Vec<Path> = urls
        .iter()
        .map(|url| Path::new(url.address(), lun_of(url)))
        .collect();
    let (policy, outage) = (options.path_policy, options.reconnect.outage);
    let set = Arc::new(PathSet::new(
        paths,
        policy,
        outage,
        options.ping_timeout,
        options.cache_loss,
    ));
    let mut options = options;
    // What a session cannot do now another one may: the set of paths decides.
    options.reconnect.outage = Outage::Fail;
    let over = Arc::new(set.over.clone().drop_guard());
    let (name, identity) = open_all(&set, urls, &options).await?;
    set.size.set(identity.blocks);
    for (place, url) in urls.iter().enumerate() {
        let keeper = Keeper {
            set: Arc::clone(&set),
            place,
            url: url.clone(),
            options: options.clone(),
            name: name.clone(),
        };
        tokio::spawn(keeper.run());
    }
    let size = set.size.clone();
    let paths = Paths {
        set,
        _over: Some(over),
    };
    Remote::over(paths, identity, size).await
}

/// Makes all sessions at once and compares their units.
async fn open_all(
    set: &PathSet,
    urls: &[IscsiUrl],
    options: &Options,
) -> Result<(UnitName, Identity), Error> {
    let mut opening = JoinSet::new();
    for (place, url) in urls.iter().enumerate() {
        let (url, options) = (url.clone(), options.clone());
        opening.spawn(async move { (place, open_one(&url, &options).await) });
    }
    let (mut unit, mut failure) = (None, Error::Closed);
    while let Some(opened) = opening.join_next().await {
        let Ok((place, opened)) = opened else {
            continue;
        };
        let Some(path) = set.paths.get(place) else {
            continue;
        };
        match opened {
            Ok((opened, access)) => {
                let Opened {
                    session,
                    name,
                    identity,
                    size,
                } = opened;
                path.set_access(access);
                path.open(session, size);
                let blocks = identity.blocks;
                let (known, first) = unit.get_or_insert_with(|| (name.clone(), identity));
                if *known != name || first.blocks != blocks {
                    tracing::error!(address = path.address, "the path leads to another unit");
                    return Err(Error::OtherUnit);
                }
            }
            Err(error @ Error::NamelessUnit) => return Err(error),
            Err(error) => {
                tracing::warn!(address = path.address, %error, "no path yet");
                path.failed(error.clone());
                failure = error;
            }
        }
    }
    unit.ok_or(failure)
}

async fn open_one(url: &IscsiUrl, options: &Options) -> Result<(Opened, Access), Error> {
    let lun = lun_of(url);
    let opened = open(url, lun, options).await?;
    let access = Access::ask(&opened.session, lun).await?;
    Ok((opened, access))
}

fn lun_of(url: &IscsiUrl) -> Lun {
    Lun::from_number(url.lun().unwrap_or(0))
}

/// Each URL once, in order.
fn distinct(urls: &[IscsiUrl]) -> Vec<IscsiUrl> {
    let mut distinct: Vec<IscsiUrl> = Vec::new();
    for url in urls {
        let same = |other: &IscsiUrl| {
            (other.address(), other.target(), lun_of(other))
                == (url.address(), url.target(), lun_of(url))
        };
        if !distinct.iter().any(same) {
            distinct.push(url.clone());
        }
    }
    distinct
}

/// Paths of one volume.
const MOST_PATHS: usize = 32;
