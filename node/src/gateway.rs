//! `vmthunder target`: a short way to write a configuration with one target of files.

use anyhow::Result;
use vmthunder_volume::Space;

use crate::args::{ChapArgs, DiskArg, LimitArgs, TargetArgs};
use crate::config::{
    AccessSection, ChapSection, Config, Gateway, LimitsSection, LunSection, TargetSection,
};
use crate::names;

/// What the command line says, as a configuration.
pub(crate) fn config(args: TargetArgs) -> Result<Config> {
    let name = match &args.iqn {
        Some(iqn) => iqn.clone(),
        None => default_name(&args.files),
    };
    let discovery = args.chap.discovery_chap;
    let luns = args.files.iter().map(|disk| lun(disk, &args)).collect();
    let chap = args.chap.section();
    Config::gateway(Gateway {
        discovery: AccessSection {
            chap: chap.clone().filter(|_| discovery),
            ..AccessSection::default()
        },
        limits: args.limits.section(),
        target: TargetSection {
            name,
            initiators: args.allow_initiator,
            networks: args.allow_network,
            chap,
            redirect: args.redirect,
            lun: luns,
        },
        listen: args.listen,
        control: args.control,
        state: args.state,
    })
}

fn default_name(files: &[DiskArg]) -> String {
    let stem = files
        .first()
        .and_then(|disk| disk.file.file_stem())
        .unwrap_or_default();
    names::gateway(&stem.to_string_lossy()).to_string()
}

/// What is said of one file goes before what is said of all.
fn lun(disk: &DiskArg, all: &TargetArgs) -> LunSection {
    let space = match all.full {
        true => Space::Full,
        false => Space::Sparse,
    };
    LunSection {
        file: disk.file.clone(),
        number: disk.number,
        size: disk.size.or(all.size),
        block_size: disk.block_size.unwrap_or(all.block_size),
        read_only: disk.read_only.unwrap_or(all.read_only),
        removable: disk.removable.unwrap_or(all.removable),
        thin: disk.space.unwrap_or(space) == Space::Sparse,
        serial: disk.serial.clone(),
    }
}

impl ChapArgs {
    fn section(self) -> Option<ChapSection> {
        Some(ChapSection {
            secret_file: self.chap_secret_file?,
            user: self.chap_user,
            mutual_user: self.mutual_user,
            mutual_secret_file: self.mutual_secret_file,
            algorithms: self.chap_algorithms,
        })
    }
}

impl LimitArgs {
    fn section(&self) -> LimitsSection {
        LimitsSection {
            sessions: self.max_sessions,
            sessions_per_initiator: None,
            logins: self.max_logins,
            memory: self.max_memory,
            commands: self.max_commands,
            login_timeout: self.login_timeout,
        }
    }
}
