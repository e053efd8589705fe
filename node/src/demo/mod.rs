//! `vmthunder demo`: an origin and several nodes as processes of their own, one boot storm through them, and the same
//! storm with every node reading from the origin alone.

mod cluster;
mod image;
mod isolation;
mod replay;
mod report;
pub(crate) mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use vmthunder_swarm::manifest::Hashes;
use vmthunder_volume::{EXTENT_BYTES, Extent, RawFile, Volume};

use crate::args::DemoArgs;
use crate::attach::open;
use crate::demo::cluster::{Cluster, Shape};
use crate::demo::replay::{Checked, Guest};
use crate::demo::report::{NodeFigures, PerNode, Report, Storm};
use crate::demo::trace::Trace;
use crate::image::{differing, import_from};
use crate::serve::end;

/// How long one storm may take when nothing slows it down on purpose.
const STORM_PATIENCE: Duration = Duration::from_secs(600);

/// Runs the demo; false if a byte was wrong.
pub(crate) async fn run(args: DemoArgs) -> Result<bool> {
    // A terminal that is closed must not leave the files of a demo behind.
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        done = demo(&args) => return done,
        ended = end(false) => ended?,
        _ = hung_up.recv() => {}
    }
    bail!("interrupted; everything that was started has ended and its files are removed")
}

/// What all storms have in common.
struct Stage {
    trace: Arc<Trace>,
    image: Arc<RawFile>,
    image_path: PathBuf,
    manifest: PathBuf,
    nodes: u32,
    pace: Option<f64>,
}

async fn demo(args: &DemoArgs) -> Result<bool> {
    let folder = tempfile::Builder::new()
        .prefix("vmthunder-demo-")
        .tempdir()
        .context("cannot make a folder")?;
    let trace = Arc::new(Trace::load(args.trace.as_deref())?);
    let image_path = match &args.image {
        Some(path) => std::path::absolute(path)?,
        None => generated(folder.path().join("image.raw"), &trace)?,
    };
    let image = Arc::new(open(&image_path)?);
    ensure!(
        trace.end() <= image.geometry().bytes(),
        "the trace {} reads up to byte {}, but {} has {} bytes: name a trace of its own with --trace",
        trace.name,
        trace.end(),
        image_path.display(),
        image.geometry().bytes()
    );
    let manifest = folder.path().join("image.manifest");
    say("hashing the image");
    let header = import_from(Arc::clone(&image), &manifest).await?;
    let stage = Stage {
        trace,
        image,
        image_path,
        manifest,
        nodes: args.nodes,
        pace: args.pace,
    };

    let mut checked = Checked::default();
    let swarm = stage
        .storm(&folder.path().join("swarm"), Shape::Swarm, &mut checked)
        .await?;
    let star = stage
        .storm(&folder.path().join("star"), Shape::Star, &mut checked)
        .await?;

    say("comparing the image with its manifest");
    let hashes = Hashes::new(
        Arc::new(header),
        open(&stage.manifest)?,
        Hashes::<RawFile>::DEFAULT_PAGES,
    );
    let changed = differing(&*stage.image, &hashes).await?;
    let report = stage.report(checked, &changed, swarm, star);
    report.print(args.json)?;
    Ok(report.wrong_bytes == 0)
}

fn generated(path: PathBuf, trace: &Trace) -> Result<PathBuf> {
    say("generating an image");
    image::generate(&path, trace)?;
    Ok(path)
}

/// A storm, and each node in it.
type Outcome = (Storm, Vec<NodeFigures>);

/// The name of a node, counted from 0.
fn node_name(index: usize) -> String {
    format!("node-{}", index + 1)
}

impl Stage {
    /// Lets all nodes boot at once, and checks what they read.
    async fn storm(
        &self,
        folder: &std::path::Path,
        shape: Shape,
        checked: &mut Checked,
    ) -> Result<Outcome> {
        say(&format!(
            "{shape}: starting an origin and {} nodes",
            self.nodes
        ));
        let working_set = self.trace.extents().len() as u64 * EXTENT_BYTES;
        let cluster = Cluster::start(folder, shape, self, working_set).await?;
        let mut guests = Vec::new();
        for node in cluster.nodes() {
            let url = node
                .create_instance(&format!("guest-{}", node.name()))
                .await?;
            guests.push(Guest::attach(&url, Arc::clone(&self.image)).await?);
        }
        let times = tokio::time::timeout(self.patience(), self.replay(shape, &guests, checked))
            .await
            .with_context(|| {
                format!("the {shape} storm takes longer than {:?}", self.patience())
            })??;
        let origin_bytes = cluster.origin().status().await?.sent_bytes;
        let mut figures = Vec::new();
        for (node, seconds) in cluster.nodes().iter().zip(&times) {
            figures.push(NodeFigures::new(*seconds, &node.status().await?));
        }
        if matches!(shape, Shape::Swarm) {
            say("writing to every instance, and looking for it in all others");
            isolation::check(&guests, &self.trace, checked).await?;
            isolation::check_image(
                &cluster.origin().image_url(),
                &self.image,
                &self.trace,
                checked,
            )
            .await?;
        }
        drop(guests);
        cluster.stop().await?;
        // The next storm's caches need the room.
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
        Ok((Storm::new(&times, origin_bytes, working_set), figures))
    }

    /// Replays the trace on all guests at once; answers the seconds that each took.
    async fn replay(
        &self,
        shape: Shape,
        guests: &[Guest],
        checked: &mut Checked,
    ) -> Result<Vec<f64>> {
        let bytes: u64 = self.trace.reads.iter().map(|read| read.span.length()).sum();
        let bar = bar(shape, bytes * u64::from(self.nodes));
        let mut running = JoinSet::new();
        for (index, guest) in guests.iter().enumerate() {
            let (guest, trace, bar, pace) = (
                guest.clone(),
                Arc::clone(&self.trace),
                bar.clone(),
                self.pace,
            );
            running.spawn(async move {
                guest
                    .replay(&trace, pace, &bar)
                    .await
                    .map(|done| (index, done))
            });
        }
        let mut times = vec![0.0; guests.len()];
        while let Some(done) = running.join_next().await {
            let (index, (seconds, part)) = done??;
            if let Some(time) = times.get_mut(index) {
                *time = seconds;
            }
            checked.add(&part);
        }
        bar.finish_and_clear();
        Ok(times)
    }

    fn patience(&self) -> Duration {
        let last = self
            .trace
            .reads
            .iter()
            .map(|read| read.at_us)
            .max()
            .unwrap_or(0);
        let paced = Duration::from_micros(last).mul_f64(self.pace.unwrap_or(0.0));
        STORM_PATIENCE + paced * 2
    }

    fn report(
        &self,
        checked: Checked,
        changed: &[Extent],
        swarm: Outcome,
        star: Outcome,
    ) -> Report {
        let both = swarm.1.into_iter().zip(star.1).enumerate();
        let per_node = both
            .map(|(index, (swarm, star))| PerNode {
                name: node_name(index),
                swarm,
                star,
            })
            .collect();
        Report {
            nodes: self.nodes,
            trace: self.trace.name.clone(),
            reads_per_node: self.trace.reads.len(),
            working_set_bytes: self.trace.extents().len() as u64 * EXTENT_BYTES,
            bytes_checked: checked.bytes,
            wrong_bytes: checked.wrong + changed.len() as u64 * EXTENT_BYTES,
            first_wrong: checked.first_wrong,
            swarm: swarm.0,
            star: star.0,
            per_node,
        }
    }
}

/// Says on standard error what comes next.
fn say(what: &str) {
    eprintln!("{what} ...");
}

fn bar(shape: Shape, bytes: u64) -> ProgressBar {
    let style =
        "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {elapsed}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes)
        .with_style(style)
        .with_message(shape.to_string())
}
