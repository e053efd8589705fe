//! A node with one image, and the commands that users give it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_initiator::Remote;
use serde_json::Value;
use vmthunder_volume::{Class, Error, Span, Volume};

use crate::harness::{EXTENT, PATIENCE, Running, Scene, attach, free_address, run, succeed};

/// A node that serves a file as an image.
pub struct Stage {
    pub scene: Scene,
    pub image: Vec<u8>,
    pub config: String,
    pub node: Option<Running>,
}

impl Stage {
    pub fn new(extents: usize) -> Self {
        Self::over(|scene| scene.image("disk.raw", extents))
    }

    /// The image is nothing but zeros.
    pub fn zeroed(extents: usize) -> Self {
        Self::over(|scene| {
            let image = vec![0; extents * EXTENT];
            std::fs::write(scene.path("disk.raw"), &image).unwrap();
            image
        })
    }

    fn over(image: impl FnOnce(&Scene) -> Vec<u8>) -> Self {
        let scene = Scene::new();
        let image = image(&scene);
        let rest = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n";
        let config = scene.config("node", free_address(), rest);
        let node = scene.serve(&config);
        node.url();
        Self {
            image,
            config: config.display().to_string(),
            node: Some(node),
            scene,
        }
    }

    pub fn kill(&mut self) {
        self.node.take().unwrap().kill();
    }

    pub fn start(&mut self) {
        let node = Running::spawn(&["serve", "--config", &self.config]);
        node.url();
        self.node = Some(node);
    }

    /// The same; what it says until it is ready, and then goes on saying in `node.log`.
    pub fn start_and_listen(&mut self) -> String {
        let log = self.scene.path("node.log");
        let node = Running::logged(&["serve", "--config", &self.config], &log);
        node.url();
        self.node = Some(node);
        std::fs::read_to_string(log).unwrap()
    }

    /// `vmthunder instance ...`, which must work; what it prints.
    pub fn instance(&self, args: &[&str]) -> String {
        succeed(&self.command(args))
    }

    /// `vmthunder instance ...`, which must be refused; what it says.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = run(&self.command(args));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        said
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        serde_json::from_str(&self.instance(&all)).unwrap()
    }

    /// Creates one; its disk.
    pub async fn create(&self, name: &str, more: &[&str]) -> Remote {
        let mut args = vec!["create", name, "--image", "disk"];
        args.extend(more);
        attach(self.instance(&args).trim()).await
    }

    /// Logs in to one that is there.
    pub async fn attach(&self, name: &str) -> Remote {
        attach(self.json(&["show", name])["urls"][0].as_str().unwrap()).await
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.scene.path("node.data/instances").join(name)
    }

    fn command<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["instance"];
        all.extend(args);
        all.extend(["--config", &self.config]);
        all
    }
}

/// An origin elsewhere and a node over it.
pub struct Away {
    pub scene: Scene,
    pub image: Vec<u8>,
    pub origin: Option<Running>,
    pub origin_config: String,
    pub config: String,
    pub node: Option<Running>,
}

impl Away {
    /// `sealed` says whether the image has a manifest, `more` what else the node's configuration says of it.
    pub fn new(extents: usize, sealed: bool, more: &str) -> Self {
        let mut away = Self::without_node(extents, sealed, more);
        away.node = Some(away.serve());
        away.node.as_ref().unwrap().url();
        away
    }

    /// The same before the node was ever started.
    pub fn without_node(extents: usize, sealed: bool, more: &str) -> Self {
        let image = |scene: &Scene| {
            let image = scene.image("disk.raw", extents);
            if sealed {
                succeed(&["image", "import", &scene.arg("disk.raw")]);
            }
            image
        };
        Self::of(image, more)
    }

    /// An image that the test makes.
    pub fn over(image: impl FnOnce(&Scene) -> Vec<u8>) -> Self {
        let mut away = Self::of(image, "");
        away.node = Some(away.serve());
        away.node.as_ref().unwrap().url();
        away
    }

    fn of(image: impl FnOnce(&Scene) -> Vec<u8>, more: &str) -> Self {
        let scene = Scene::new();
        let image = image(&scene);
        let rest = "[[image]]\nname = \"disk\"\nfile = \"disk.raw\"\n";
        let at: SocketAddr = free_address();
        let origin_config = scene.config("origin", at, rest).display().to_string();
        let origin = Running::spawn(&["serve", "--config", &origin_config]);
        let url = origin.url();
        let rest = format!(
            "[cache]\nsize = \"64 MiB\"\n[[image]]\nname = \"disk\"\norigin = {url:?}\n{more}"
        );
        let config = scene.config("node", free_address(), &rest);
        Self {
            image,
            origin: Some(origin),
            origin_config,
            config: config.display().to_string(),
            node: None,
            scene,
        }
    }

    pub fn serve(&self) -> Running {
        Running::spawn(&["serve", "--config", &self.config])
    }

    pub fn start_origin(&mut self) {
        let origin = Running::spawn(&["serve", "--config", &self.origin_config]);
        origin.url();
        self.origin = Some(origin);
    }

    pub fn create(&self, name: &str, more: &[&str]) -> String {
        let mut args = vec!["instance", "create", name, "--image", "disk"];
        args.extend(["--config", &self.config]);
        args.extend(more);
        succeed(&args).trim().to_owned()
    }

    pub fn status(&self) -> Value {
        let status = succeed(&["status", "--json", "--config", &self.config]);
        serde_json::from_str(&status).unwrap()
    }
}

impl Away {
    /// Waits until the cache has so many extents on disk, of image and manifest: fills are behind their reads.
    pub async fn filled(&self, extents: u64) {
        let started = Instant::now();
        let full = extents * EXTENT as u64;
        while self.status()["cache"]["resident_bytes"].as_u64().unwrap() < full {
            assert!(started.elapsed() < PATIENCE, "the cache is not filled");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Reads, and fails the test if that takes too long.
pub async fn read(disk: &Remote, offset: usize, length: usize) -> Result<Bytes, Error> {
    let span = Span::new(offset as u64, length as u64);
    tokio::time::timeout(PATIENCE, disk.read(span, Class::Demand))
        .await
        .expect("in time")
}

/// Writes, and fails the test if that takes too long.
pub async fn write(disk: &Remote, offset: usize, bytes: Vec<u8>) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, disk.write(offset as u64, bytes.into()))
        .await
        .expect("in time")
}

/// A command that nobody waits for; ended with the test.
pub(crate) struct Background(pub(crate) Child);

impl Background {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmthunder"));
        command.args(args).stdin(Stdio::null());
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
