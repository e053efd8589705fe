//! What is measured: who serves, who drives, which work, and what is to come of it.

/// Servers and drivers side by side at the same work.
pub(super) struct Case {
    /// How it is asked for.
    pub(super) name: &'static str,
    /// What it is, in words.
    pub(super) title: &'static str,
    pub(super) work: Work,
    /// Those that take turns.
    pub(super) sides: &'static [Side],
    /// The ratios that count.
    pub(super) goals: &'static [Goal],
}

/// One of those that take turns.
pub(super) struct Side {
    /// Unlike every other of the case.
    pub(super) name: &'static str,
    pub(super) server: Server,
    pub(super) driver: Driver,
}

/// Who serves, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// `vmthunder target` on a raw file.
    Target,
    /// `vmthunder target` on a raw file that holds nothing at the beginning of every turn.
    FreshTarget,
    /// tgt on a raw file, with so many threads, else with as many as it likes.
    Tgt { threads: Option<u8> },
    /// The LUN of an image that a node holds in its cache.
    CachedImage,
    /// An instance that is created for every turn, on an image of which the node holds nothing.
    FreshInstance,
    /// An instance that was written from end to end.
    WrittenInstance,
}

/// Who drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// lab/load, over libiscsi.
    Libiscsi,
    /// `vmthunder iscsi bench`.
    Bench,
    /// libiscsi's own `iscsi-perf`; reads only.
    IscsiPerf,
    /// `vmthunder iscsi copy` into a file.
    Copy,
    /// `qemu-img convert` into a file, with these options.
    QemuImg(&'static [&'static str]),
}

/// What is asked of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Reads and writes for a time.
    Load(Load),
    /// The whole disk, once.
    Copy(Disk),
}

/// Reads and writes, one session after another's manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// How many of a hundred are reads.
    pub(super) reads: u8,
    pub(super) sequential: bool,
    /// Bytes of one read or write.
    pub(super) block: u32,
    /// How many are under way.
    pub(super) depth: u16,
}

/// What a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// Something everywhere.
    Full,
    /// Something here and there.
    Sparse,
}

/// A figure of a side in relation to that of another.
pub(super) struct Goal {
    pub(super) figure: Figure,
    /// The side that it is about.
    pub(super) of: &'static str,
    /// The best of these is what it is compared with.
    pub(super) against: &'static [&'static str],
    pub(super) bound: Bound,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// It is told and nothing else.
    Told,
}

/// What is read off a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Reads and writes in a second.
    Iops,
    /// MiB in a second.
    Throughput,
    /// Half of the reads and writes took no longer, in microseconds.
    HalfWithin,
    /// CPU seconds of the server for 100,000 reads and writes.
    ServerCpu,
    /// CPU seconds of the driver for 100,000 reads and writes.
    DriverCpu,
    /// How long it took.
    Seconds,
    /// CPU seconds of the driver for all of it.
    DriverSeconds,
}

impl Figure {
    /// What it is called.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::Throughput => "MiB/s",
            Self::HalfWithin => "p50, us",
            Self::ServerCpu => "server CPU s per 100 k",
            Self::DriverCpu => "driver CPU s per 100 k",
            Self::Seconds => "seconds",
            Self::DriverSeconds => "driver CPU s",
        }
    }

    /// What it is called in `--json`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Iops => "iops",
            Self::Throughput => "mib_per_second",
            Self::HalfWithin => "p50_us",
            Self::ServerCpu => "server_cpu_seconds_per_100k",
            Self::DriverCpu => "driver_cpu_seconds_per_100k",
            Self::Seconds => "seconds",
            Self::DriverSeconds => "driver_cpu_seconds",
        }
    }

    /// True if less is better.
    pub(super) fn is_cost(self) -> bool {
        !matches!(self, Self::Iops | Self::Throughput)
    }

    /// Digits behind the point.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Iops | Self::Throughput => 0,
            Self::HalfWithin => 1,
            Self::ServerCpu | Self::DriverCpu | Self::Seconds | Self::DriverSeconds => 2,
        }
    }

    /// This figure of a turn, if it has one.
    pub(super) fn of(self, turn: &Turn) -> Option<f64> {
        let per_100k = |cpu: f64| (turn.ops > 0).then(|| cpu / turn.ops as f64 * 1e5);
        let per_second = |count: f64| (turn.seconds > 0.0).then(|| count / turn.seconds);
        match self {
            Self::Iops => per_second(turn.ops as f64),
            Self::Throughput => per_second(turn.bytes as f64 / f64::from(1 << 20)),
            Self::HalfWithin => turn.half_within,
            Self::ServerCpu => per_100k(turn.server_cpu),
            Self::DriverCpu => per_100k(turn.driver_cpu),
            Self::Seconds => Some(turn.seconds),
            Self::DriverSeconds => Some(turn.driver_cpu),
        }
    }
}

impl Work {
    /// The figures that say something about it.
    pub(super) fn figures(self) -> &'static [Figure] {
        match self {
            Self::Load(_) => &[
                Figure::Iops,
                Figure::Throughput,
                Figure::HalfWithin,
                Figure::ServerCpu,
                Figure::DriverCpu,
            ],
            Self::Copy(_) => &[Figure::Seconds, Figure::DriverSeconds, Figure::Throughput],
        }
    }
}

/// What came of one turn of a side. What it read or wrote was compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Turn {
    pub(super) seconds: f64,
    /// Reads and writes.
    pub(super) ops: u64,
    pub(super) bytes: u64,
    /// CPU seconds.
    pub(super) server_cpu: f64,
    pub(super) driver_cpu: f64,
    /// Microseconds, if the driver tells.
    pub(super) half_within: Option<f64>,
    /// Cores that others kept busy meanwhile.
    pub(super) others: f64,
}

impl Turn {
    /// True if others took so much that the turn says little.
    pub(super) fn is_disturbed(&self) -> bool {
        self.others > DISTURBED
    }
}

/// Of two cores, server and driver need about one each.
const DISTURBED: f64 = 0.3;
