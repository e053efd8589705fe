//! What a fuzzer throws its bytes at, with the promises that have to hold whatever the bytes are; compiled for tests and
//! with the feature `fuzzing` alone.

mod commands;
mod services;

use tokio::runtime::{Builder, Runtime};
use vmthunder_volume::testing::MemVolume;
use vmthunder_volume::{BlockSize, Geometry};

use crate::{Unit, UnitIdentity};

pub use commands::command;
pub use services::service;

/// Units of each kind: a plain one, one that is read only and has long blocks, and one whose medium can be ejected.
fn units() -> Vec<Unit<MemVolume>> {
    let kinds = [
        (BlockSize::B512, 256, false, false),
        (BlockSize::B4096, 32, true, false),
        (BlockSize::B512, 64, false, true),
    ];
    let unit = |(number, (block_size, blocks, read_only, removable))| {
        let volume = MemVolume::zeroed(Geometry::new(block_size, blocks));
        let identity = UnitIdentity::locally_assigned(u64::from(number), "fuzzed");
        Unit {
            read_only,
            removable,
            ..Unit::new(number, volume, identity)
        }
    };
    (0..).zip(kinds).map(unit).collect()
}

/// One thread, as every connection has.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time();
    builder.build().expect("a runtime of one thread")
}

#[cfg(test)]
mod tests {
    use iscsi_proto::fuzzing::replay;

    use super::{command, service};

    #[test]
    fn commands_keep_their_promises() {
        replay("command", 1_500, command);
    }

    #[test]
    fn a_service_keeps_its_promises() {
        replay("service", 500, service);
    }
}
