//! etcd as Debian packages it, alone in a folder, and what a check asks of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::foreign::bench::{LIMIT, ask};
use crate::nodes;

/// A cluster of one.
pub(super) struct Etcd {
    /// HOST:PORT, for clients.
    pub(super) address: String,
    peers: String,
    scheme: &'static str,
    options: Vec<String>,
    daemon: Option<Daemon>,
}

impl Etcd {
    /// Starts it in a folder of its own.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        Self::begin(folder, "http", Vec::new())
    }

    /// Starts it with TLS: whoever asks needs a certificate. Gives the files of authority, certificate and key.
    pub(super) fn start_with_tls(folder: &Path) -> Result<(Self, [String; 3])> {
        let [ca, certificate, key] = certificates(folder)?;
        let options = [
            ("--cert-file", &certificate),
            ("--key-file", &key),
            ("--trusted-ca-file", &ca),
        ];
        let options = options
            .iter()
            .flat_map(|(name, file)| [(*name).to_owned(), (*file).clone()]);
        let options = options.chain(["--client-cert-auth".to_owned()]).collect();
        Ok((
            Self::begin(folder, "https", options)?,
            [ca, certificate, key],
        ))
    }

    fn begin(folder: &Path, scheme: &'static str, options: Vec<String>) -> Result<Self> {
        let mut addresses = nodes::free_addresses(2)?.into_iter();
        let mut etcd = Self {
            address: addresses.next().context("a free address")?,
            peers: addresses.next().context("a free address")?,
            scheme,
            options,
            daemon: None,
        };
        etcd.serve(folder)?;
        Ok(etcd)
    }

    /// Starts it again where it was, with what it knew or, if the folder is another, with nothing.
    pub(super) fn serve(&mut self, folder: &Path) -> Result<()> {
        let clients = self.url();
        let peers = format!("http://{}", self.peers);
        let mut command = Command::new("etcd");
        command
            .args(["--name", "one", "--data-dir"])
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ])
            .args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ])
            .args(["--initial-cluster", &format!("one={peers}")])
            .args(&self.options);
        self.daemon = Some(Daemon::start(&mut command, folder, "etcd.log")?);
        let deadline = Instant::now() + LIMIT;
        // With TLS only its port can be tried from here.
        let answers = |etcd: &Self| match etcd.scheme {
            "http" => etcd.call("kv/range", &json!({"key": "AA=="})).is_ok(),
            _ => TcpStream::connect(&etcd.address).is_ok(),
        };
        while !answers(self) {
            let log = self.daemon.as_ref().map(Daemon::last_lines);
            ensure!(
                Instant::now() < deadline,
                "etcd does not answer\n{}",
                log.unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it as a power failure would.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("etcd runs")?.kill()
    }

    /// Where clients reach it.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Calls its API; what it answers.
    pub(super) fn call(&self, path: &str, question: &Value) -> Result<Value> {
        let question = question.to_string();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(
            stream,
            "POST /v3/{path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{question}",
            self.address,
            question.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer of HTTP")?;
        if !head.starts_with("HTTP/1.0 200") {
            bail!("{path} {question}: {answer}");
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Puts a value there, under no lease.
    pub(super) fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let question = json!({"key": base64(key.as_bytes()), "value": base64(value)});
        self.call("kv/put", &question).map(drop)
    }

    /// What a key holds.
    pub(super) fn get(&self, key: &str) -> Result<Option<String>> {
        let answer = self.call("kv/range", &json!({"key": base64(key.as_bytes())}))?;
        Ok(answer["kvs"][0]["value"].as_str().map(str::to_owned))
    }

    /// Forgets all keys.
    pub(super) fn clear(&self) -> Result<()> {
        self.call(
            "kv/deleterange",
            &json!({"key": "AA==", "range_end": "AA=="}),
        )
        .map(drop)
    }

    /// Changes something many times, and forgets how everything was before.
    pub(super) fn compact(&self) -> Result<()> {
        for turn in 0..50_u8 {
            self.put("/other", &[turn])?;
        }
        let answer = self.call("kv/range", &json!({"key": "AA=="}))?;
        let revision = &answer["header"]["revision"];
        self.call(
            "kv/compaction",
            &json!({"revision": revision, "physical": true}),
        )
        .map(drop)
    }
}

/// An authority, and a certificate that serves both sides on the loopback.
fn certificates(folder: &Path) -> Result<[String; 3]> {
    let at = |name: &str| folder.join(name).display().to_string();
    let (ca, ca_key) = (at("ca.pem"), at("ca.key"));
    let (certificate, key, request) = (at("node.pem"), at("node.key"), at("node.csr"));
    let new_key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    ask(
        "openssl",
        &[
            &[
                "req",
                "-x509",
                "-subj",
                "/CN=authority",
                "-days",
                "2",
                "-keyout",
                &ca_key,
                "-out",
                &ca,
            ][..],
            &new_key,
        ]
        .concat(),
    )?;
    ask(
        "openssl",
        &[
            &[
                "req", "-new", "-subj", "/CN=node", "-keyout", &key, "-out", &request,
            ][..],
            &new_key,
        ]
        .concat(),
    )?;
    let extensions = at("extensions");
    fs::write(
        &extensions,
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )?;
    ask(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-out",
            &certificate,
            "-extfile",
            &extensions,
        ],
    )?;
    Ok([ca, certificate, key])
}

/// Bytes as etcd's API writes them (RFC 4648 §4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or_default();
            text.push(if digit > three.len() {
                '='
            } else {
                char::from(DIGITS[index])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_as_everybody_writes_it() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(super::base64(plain.as_bytes()), text);
        }
    }
}
