//! Target names and what is behind them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use iscsi_proto::name::IscsiName;
use vmthunder_volume::{Class, Volume};

use crate::access::{AccessRules, ChapRules};
use crate::inquiry::Port;
use crate::unit::{LogicalUnit, Unit};

/// Exports of one target.
const MAX_EXPORTS: usize = 16_384;

/// A target name with its logical units.
#[derive(Debug)]
pub struct Export<V> {
    /// The name that initiators log in to.
    pub name: IscsiName,
    /// The logical units.
    pub units: Vec<Unit<V>>,
    /// For whom the initiators of this export read.
    pub class: Class,
    /// The number of this target's port among all ports of the same units; 1 where there is but one.
    pub relative_port: u16,
    /// Who may log in.
    pub access: AccessRules,
}

impl<V> Export<V> {
    /// An export for everybody, whose initiators read for themselves.
    pub fn new(name: IscsiName, units: Vec<Unit<V>>) -> Self {
        Self {
            name,
            units,
            class: Class::Demand,
            relative_port: 1,
            access: AccessRules::default(),
        }
    }
}

/// Why an export is refused.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The name is in use.
    #[error("there is an export of this name already")]
    NameTaken,
    /// Whoever knows a secret that initiators prove themselves with could pass off as this target (RFC 7143 §9.2.1).
    #[error(
        "a CHAP secret of this export serves in the other direction for another export, or for discovery"
    )]
    SecretOfBothDirections,
    /// There is no export of this name.
    #[error("there is no export of this name")]
    NoExport,
    /// There is no unit of this number.
    #[error("the export has no unit of this number")]
    NoUnit,
    /// Two units have the same number.
    #[error("two units of the export have the same number")]
    NumberTaken,
    /// An export needs a unit.
    #[error("the export has no unit")]
    NoUnits,
    /// An export cannot have so many units.
    #[error("the export has more than {most} units")]
    TooManyUnits {
        /// How many there may be.
        most: usize,
    },
    /// There are as many exports as there can be.
    #[error("there are {MAX_EXPORTS} exports already")]
    TooManyExports,
    /// SCSI cannot address a volume without blocks.
    #[error("a unit has no blocks")]
    EmptyVolume,
    /// What a unit keeps on disk cannot be read.
    #[error("the reservations of unit {unit}, or its journal, cannot be read: {error}")]
    Unreadable {
        /// The unit's number.
        unit: u16,
        /// What is wrong with the file.
        error: io::Error,
    },
}

/// The units of an export by number, as they are at one moment.
pub(crate) type Units<V> = BTreeMap<u16, Arc<LogicalUnit<V>>>;

/// An export that is being served.
#[derive(Debug)]
pub(crate) struct Served<V> {
    pub(crate) class: Class,
    pub(crate) port: Port,
    pub(crate) access: AccessRules,
    units: RwLock<Arc<Units<V>>>,
    /// Counts the changes of `units`: who has an old list sees it without the lock.
    changes: AtomicU64,
}

impl<V> Served<V> {
    pub(crate) fn new(class: Class, port: Port, access: AccessRules, units: Units<V>) -> Self {
        Self {
            class,
            port,
            access,
            units: RwLock::new(Arc::new(units)),
            changes: AtomicU64::new(0),
        }
    }

    /// The units now, and how often they changed.
    pub(crate) fn units(&self) -> (Arc<Units<V>>, u64) {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&units), self.changes.load(Ordering::Acquire))
    }

    /// Puts other units in the place of these, if `other` finds nothing wrong.
    pub(crate) fn change(
        &self,
        other: impl FnOnce(&Units<V>) -> Result<Units<V>, ExportError>,
    ) -> Result<(), ExportError> {
        let mut units = self.units.write().unwrap_or_else(PoisonError::into_inner);
        *units = Arc::new(other(&units)?);
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// How often the units changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}

/// The exports of a target by name.
#[derive(Debug)]
pub(crate) struct Exports<V> {
    /// For whom asks what exports there are.
    discovery: Option<ChapRules>,
    by_name: RwLock<BTreeMap<IscsiName, Arc<Served<V>>>>,
}

impl<V: Volume> Exports<V> {
    pub(crate) fn new(discovery: &AccessRules) -> Self {
        Self {
            discovery: discovery.chap.clone(),
            by_name: RwLock::new(BTreeMap::new()),
        }
    }

    pub(crate) fn add(
        &self,
        export: Export<V>,
        portal_group_tag: u16,
        most: usize,
    ) -> Result<(), ExportError> {
        let Export {
            name,
            units,
            class,
            relative_port,
            access,
        } = export;
        match units.len() {
            0 => return Err(ExportError::NoUnits),
            count if count > most => return Err(ExportError::TooManyUnits { most }),
            _ => {}
        }
        let port = Port {
            target: name.clone(),
            portal_group_tag,
            relative_port,
        };
        let mut served = Units::new();
        for unit in units {
            let number = unit.number;
            if served.insert(number, logical(&name, unit)?).is_some() {
                return Err(ExportError::NumberTaken);
            }
        }
        let served = Served::new(class, port, access, served);
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if by_name.contains_key(&name) {
            return Err(ExportError::NameTaken);
        }
        if by_name.len() >= MAX_EXPORTS {
            return Err(ExportError::TooManyExports);
        }
        if let Some(chap) = &served.access.chap {
            let others = by_name
                .values()
                .filter_map(|other| other.access.chap.as_ref());
            let mut others = others.chain(&self.discovery);
            if others.any(|other| chap.mixes_directions_with(other)) {
                return Err(ExportError::SecretOfBothDirections);
            }
        }
        by_name.insert(name, Arc::new(served));
        Ok(())
    }

    pub(crate) fn remove(&self, name: &IscsiName) -> bool {
        self.by_name
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
            .is_some()
    }

    pub(crate) fn get(&self, name: &IscsiName) -> Option<Arc<Served<V>>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Every export with its name, in the order of the names.
    pub(crate) fn all(&self) -> Vec<(IscsiName, Arc<Served<V>>)> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let named =
            |(name, served): (&IscsiName, &Arc<Served<V>>)| (name.clone(), Arc::clone(served));
        by_name.iter().map(named).collect()
    }

    /// Adds a unit to an export.
    pub(crate) fn add_unit(
        &self,
        name: &IscsiName,
        unit: Unit<V>,
        most: usize,
    ) -> Result<(), ExportError> {
        let served = self.get(name).ok_or(ExportError::NoExport)?;
        let number = unit.number;
        // This reads files, so it is done before anybody has to wait for it.
        let unit = logical(name, unit)?;
        served.change(|units| {
            if units.contains_key(&number) {
                return Err(ExportError::NumberTaken);
            }
            if units.len() >= most {
                return Err(ExportError::TooManyUnits { most });
            }
            let mut units = units.clone();
            units.insert(number, unit);
            Ok(units)
        })
    }

    /// Takes a unit out of an export.
    pub(crate) fn remove_unit(&self, name: &IscsiName, number: u16) -> Result<(), ExportError> {
        let served = self.get(name).ok_or(ExportError::NoExport)?;
        served.change(|units| {
            let mut units = units.clone();
            units.remove(&number).ok_or(ExportError::NoUnit)?;
            if units.is_empty() {
                return Err(ExportError::NoUnits);
            }
            Ok(units)
        })
    }

    pub(crate) fn names(&self) -> Vec<IscsiName> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }
}

fn logical<V: Volume>(
    target: &IscsiName,
    unit: Unit<V>,
) -> Result<Arc<LogicalUnit<V>>, ExportError> {
    if unit.volume.geometry().blocks() == 0 {
        return Err(ExportError::EmptyVolume);
    }
    let number = unit.number;
    let unit = LogicalUnit::new(target, unit).map_err(|error| ExportError::Unreadable {
        unit: number,
        error,
    })?;
    Ok(Arc::new(unit))
}
