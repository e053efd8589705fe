//! The table of cases.

use super::case::{Bound, Case, Disk, Driver, Figure, Goal, Load, Server, Side, Work};

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

const fn random(reads: u8, block: u32, depth: u16) -> Work {
    Work::Load(Load {
        reads,
        sequential: false,
        block,
        depth,
    })
}

const fn sequential(reads: u8, block: u32, depth: u16) -> Work {
    Work::Load(Load {
        reads,
        sequential: true,
        block,
        depth,
    })
}

const fn side(name: &'static str, server: Server, driver: Driver) -> Side {
    Side {
        name,
        server,
        driver,
    }
}

const fn goal(
    figure: Figure,
    of: &'static str,
    against: &'static [&'static str],
    bound: Bound,
) -> Goal {
    Goal {
        figure,
        of,
        against,
        bound,
    }
}

const TGT: Server = Server::Tgt { threads: None };
const TGT_1: Server = Server::Tgt { threads: Some(1) };
/// What qemu-img is told by those who want it fast.
const MANY: &[&str] = &["-m", "16", "-W"];

const COPY: &[Side] = &[
    side("iscsi copy", Server::Target, Driver::Copy),
    side("qemu-img", Server::Target, Driver::QemuImg(&[])),
    side("qemu-img -m 16 -W", Server::Target, Driver::QemuImg(MANY)),
];
const COPY_FROM_TGT: &[Side] = &[
    side("iscsi copy", TGT, Driver::Copy),
    side("qemu-img", TGT, Driver::QemuImg(&[])),
    side("qemu-img -m 16 -W", TGT, Driver::QemuImg(MANY)),
];
const COPY_GOALS: &[Goal] = &[
    goal(Figure::Seconds, "iscsi copy", QEMU_IMG, Bound::AtMost(1.0)),
    goal(
        Figure::DriverSeconds,
        "iscsi copy",
        QEMU_IMG,
        Bound::AtMost(1.0),
    ),
];
const QEMU_IMG: &[&str] = &["qemu-img", "qemu-img -m 16 -W"];

const INITIATORS: &[Side] = &[
    side("iscsi bench", Server::Target, Driver::Bench),
    side("lab/load", Server::Target, Driver::Libiscsi),
    side("iscsi-perf", Server::Target, Driver::IscsiPerf),
];
const INITIATOR_GOALS: &[Goal] = &[
    goal(
        Figure::DriverCpu,
        "iscsi bench",
        LIBISCSI,
        Bound::AtMost(0.5),
    ),
    goal(Figure::Iops, "iscsi bench", LIBISCSI, Bound::Told),
];
const LIBISCSI: &[&str] = &["lab/load", "iscsi-perf"];

const CACHED: &[Side] = &[
    side(
        "node, from its cache",
        Server::CachedImage,
        Driver::Libiscsi,
    ),
    side("raw file", Server::Target, Driver::Libiscsi),
];
const CACHED_GOALS: &[Goal] = &[
    goal(
        Figure::Throughput,
        "node, from its cache",
        &["raw file"],
        Bound::AtLeast(0.9),
    ),
    goal(
        Figure::ServerCpu,
        "node, from its cache",
        &["raw file"],
        Bound::AtMost(1.1),
    ),
];

const OVERLAY_WRITE: &[Side] = &[
    side("fresh instance", Server::FreshInstance, Driver::Libiscsi),
    side("fresh raw file", Server::FreshTarget, Driver::Libiscsi),
];
const OVERLAY_WRITE_GOALS: &[Goal] = &[
    goal(
        Figure::Iops,
        "fresh instance",
        &["fresh raw file"],
        Bound::AtLeast(0.8),
    ),
    goal(
        Figure::ServerCpu,
        "fresh instance",
        &["fresh raw file"],
        Bound::Told,
    ),
];
const OVERLAY_READ: &[Side] = &[
    side(
        "written instance",
        Server::WrittenInstance,
        Driver::Libiscsi,
    ),
    side("raw file", Server::Target, Driver::Libiscsi),
];
const OVERLAY_READ_GOALS: &[Goal] = &[
    goal(Figure::Iops, "written instance", &["raw file"], Bound::Told),
    goal(
        Figure::ServerCpu,
        "written instance",
        &["raw file"],
        Bound::Told,
    ),
];

const TARGETS: &[Side] = &[
    side("vmthunder", Server::Target, Driver::Libiscsi),
    side("tgt", TGT, Driver::Libiscsi),
    side("tgt -t 1", TGT_1, Driver::Libiscsi),
];
const BOTH_TGT: &[&str] = &["tgt", "tgt -t 1"];

/// The goals of a target against tgt: more reads or writes, and less CPU for each.
macro_rules! against_tgt {
    ($iops:expr, $cpu:expr) => {
        &[
            goal(Figure::Iops, "vmthunder", BOTH_TGT, Bound::AtLeast($iops)),
            goal(
                Figure::ServerCpu,
                "vmthunder",
                BOTH_TGT,
                Bound::AtMost($cpu),
            ),
        ]
    };
}

/// The same at depth 1: less time for each.
const SOONER: &[Goal] = &[
    goal(
        Figure::HalfWithin,
        "vmthunder",
        BOTH_TGT,
        Bound::AtMost(0.6),
    ),
    goal(Figure::ServerCpu, "vmthunder", BOTH_TGT, Bound::Told),
];

/// The same one behind the other: more bytes.
macro_rules! streamed {
    ($throughput:expr) => {
        &[
            goal(
                Figure::Throughput,
                "vmthunder",
                BOTH_TGT,
                Bound::AtLeast($throughput),
            ),
            goal(Figure::ServerCpu, "vmthunder", BOTH_TGT, Bound::Told),
        ]
    };
}

const fn case(
    name: &'static str,
    title: &'static str,
    work: Work,
    sides: &'static [Side],
    goals: &'static [Goal],
) -> Case {
    Case {
        name,
        title,
        work,
        sides,
        goals,
    }
}

/// Every case, in the order of the page.
pub(super) const CASES: &[Case] = &[
    case(
        "copy-full",
        "Copy of a disk full of data into a file",
        Work::Copy(Disk::Full),
        COPY,
        COPY_GOALS,
    ),
    case(
        "copy-sparse",
        "Copy of a sparse disk into a file",
        Work::Copy(Disk::Sparse),
        COPY,
        COPY_GOALS,
    ),
    case(
        "copy-full-from-tgt",
        "Copy of a disk full of data from tgt into a file",
        Work::Copy(Disk::Full),
        COPY_FROM_TGT,
        COPY_GOALS,
    ),
    case(
        "copy-sparse-from-tgt",
        "Copy of a sparse disk from tgt into a file",
        Work::Copy(Disk::Sparse),
        COPY_FROM_TGT,
        COPY_GOALS,
    ),
    case(
        "initiator-random-1",
        "Initiators: 4 KiB random read, depth 1",
        random(100, 4 * KIB, 1),
        INITIATORS,
        INITIATOR_GOALS,
    ),
    case(
        "initiator-random-32",
        "Initiators: 4 KiB random read, depth 32",
        random(100, 4 * KIB, 32),
        INITIATORS,
        INITIATOR_GOALS,
    ),
    case(
        "initiator-sequential",
        "Initiators: 1 MiB sequential read, depth 4",
        sequential(100, MIB, 4),
        INITIATORS,
        INITIATOR_GOALS,
    ),
    case(
        "target-read-32",
        "Targets: 4 KiB random read, depth 32",
        random(100, 4 * KIB, 32),
        TARGETS,
        against_tgt!(2.5, 0.2),
    ),
    case(
        "target-write-32",
        "Targets: 4 KiB random write, depth 32",
        random(0, 4 * KIB, 32),
        TARGETS,
        against_tgt!(2.5, 0.3),
    ),
    case(
        "target-read-1",
        "Targets: 4 KiB random read, depth 1",
        random(100, 4 * KIB, 1),
        TARGETS,
        SOONER,
    ),
    case(
        "target-write-1",
        "Targets: 4 KiB random write, depth 1",
        random(0, 4 * KIB, 1),
        TARGETS,
        SOONER,
    ),
    case(
        "target-sequential-read",
        "Targets: 1 MiB sequential read, depth 4",
        sequential(100, MIB, 4),
        TARGETS,
        streamed!(1.4),
    ),
    case(
        "target-sequential-write",
        "Targets: 1 MiB sequential write, depth 4",
        sequential(0, MIB, 4),
        TARGETS,
        streamed!(2.0),
    ),
    case(
        "node-cache-4k",
        "A node's cache: 4 KiB random read, depth 32",
        random(100, 4 * KIB, 32),
        CACHED,
        CACHED_GOALS,
    ),
    case(
        "node-cache-256k",
        "A node's cache: 256 KiB random read, depth 8",
        random(100, 256 * KIB, 8),
        CACHED,
        CACHED_GOALS,
    ),
    case(
        "node-overlay-write",
        "An instance on an image that is far away: 4 KiB random write, depth 32",
        random(0, 4 * KIB, 32),
        OVERLAY_WRITE,
        OVERLAY_WRITE_GOALS,
    ),
    case(
        "node-overlay-read",
        "An instance's own blocks: 4 KiB random read, depth 32",
        random(100, 4 * KIB, 32),
        OVERLAY_READ,
        OVERLAY_READ_GOALS,
    ),
];

#[cfg(test)]
mod tests {
    use super::CASES;

    #[test]
    fn names_are_unlike_and_goals_speak_of_sides_that_are_there() {
        for (at, case) in CASES.iter().enumerate() {
            assert!(
                CASES[..at].iter().all(|other| other.name != case.name),
                "{} twice",
                case.name
            );
            let is_side = |name: &&str| case.sides.iter().any(|side| side.name == *name);
            for goal in case.goals {
                assert!(is_side(&goal.of), "{}: {}", case.name, goal.of);
                assert!(goal.against.iter().all(is_side), "{}", case.name);
                assert!(case.work.figures().contains(&goal.figure), "{}", case.name);
            }
        }
    }
}
