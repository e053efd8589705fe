//! What Wireshark makes of a capture.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::json;

use crate::bounded;
use crate::tally::Tally;

/// Decoding some hundred MiB.
const DECODE_LIMIT: Duration = Duration::from_secs(600);

/// What Wireshark made of a capture.
#[derive(Default)]
pub(crate) struct Decoded {
    /// PDUs by opcode and name.
    opcodes: BTreeMap<u8, u64>,
    /// What is wrong with PDUs of a target.
    complaints: Vec<String>,
    /// How many of a target's answers end where the initiator's buffer does: Wireshark misses the rest.
    cut_short: u64,
    /// How many of an initiator's were wrong: the suite sends such things on purpose.
    from_initiators: u64,
    /// The length that the command in a frame expects.
    asked: HashMap<String, String>,
}

/// What is asked of Wireshark about each frame.
const FIELDS: [&str; 8] = [
    "frame.number",
    "tcp.srcport",
    "iscsi.opcode",
    "_ws.expert.severity",
    "iscsi.scsicommand.expecteddatatransferlength",
    "iscsi.request_frame",
    "iscsi.datasegmentlength",
    "_ws.col.Info",
];

/// Wireshark's number for an error, as against a warning.
const ERROR: &str = "8388608";

impl Decoded {
    /// Decodes what was said with targets on these ports.
    pub(crate) fn read(file: &Path, ports: &[u16]) -> Result<Self> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(file);
        for port in ports {
            command.args(["-d", &format!("tcp.port=={port},iscsi")]);
        }
        command.args(["-Y", "iscsi", "-T", "fields", "-E", "occurrence=a"]);
        for field in FIELDS {
            command.args(["-e", field]);
        }
        let text = bounded::succeed(&mut command, DECODE_LIMIT)?.text();
        let mut decoded = Self::default();
        for line in text.lines() {
            decoded.frame(line, ports)?;
        }
        Ok(decoded)
    }

    fn frame(&mut self, line: &str, ports: &[u16]) -> Result<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [
            frame,
            port,
            opcodes,
            severities,
            asked,
            request,
            length,
            words,
        ] = fields[..]
        else {
            bail!("tshark prints {} fields: {line}", FIELDS.len());
        };
        for opcode in opcodes.split(',') {
            let opcode = u8::from_str_radix(opcode.trim_start_matches("0x"), 16)?;
            *self.opcodes.entry(opcode).or_default() += 1;
        }
        if !asked.is_empty() {
            self.asked.insert(frame.to_owned(), asked.to_owned());
        }
        if !severities.split(',').any(|severity| severity == ERROR) {
            return Ok(());
        }
        if !ports.iter().any(|known| known.to_string() == port) {
            self.from_initiators += 1;
        } else if self.is_cut_short(request, length) {
            self.cut_short += 1;
        } else {
            self.complaints.push(format!("frame {frame}: {words}"));
        }
        Ok(())
    }

    /// True if a frame with answers to commands in these frames has one that is as long as its command allowed. A frame
    /// may hold several PDUs, and each field a list.
    fn is_cut_short(&self, requests: &str, lengths: &str) -> bool {
        let asked = requests
            .split(',')
            .filter_map(|frame| self.asked.get(frame))
            .flat_map(|asked| asked.split(','));
        let lengths: Vec<&str> = lengths.split(',').filter(|length| *length != "0").collect();
        asked.into_iter().any(|asked| lengths.contains(&asked))
    }

    /// Prints counts and complaints; a complaint is an error, and so is an opcode that is nowhere if `all` are expected.
    pub(crate) fn report(&self, as_json: bool, all: bool) -> Result<Tally> {
        if as_json {
            let opcodes: Vec<_> = self
                .opcodes
                .iter()
                .map(|(opcode, count)| json!({ "opcode": opcode, "name": name(*opcode), "pdus": count }))
                .collect();
            println!(
                "{}",
                json!({ "opcodes": opcodes, "cut_short": self.cut_short, "malformed": self.complaints, "malformed_from_initiators": self.from_initiators })
            );
        } else {
            for (opcode, count) in &self.opcodes {
                println!("{opcode:#04x} {:<30} {count:>8}", name(*opcode));
            }
            println!(
                "malformed by initiators, on purpose: {}",
                self.from_initiators
            );
            println!(
                "answers cut short by the initiator's buffer: {}",
                self.cut_short
            );
        }
        for complaint in &self.complaints {
            println!("MALFORMED {complaint}");
        }
        let missing: Vec<&str> = OPCODES
            .iter()
            .filter(|(opcode, ..)| !self.opcodes.contains_key(opcode))
            .map(|(_, name)| *name)
            .collect();
        ensure!(
            self.complaints.is_empty(),
            "{} malformed PDUs",
            self.complaints.len()
        );
        ensure!(
            !all || missing.is_empty(),
            "not in the capture: {}",
            missing.join(", ")
        );
        Ok(Tally {
            passed: u32::try_from(self.opcodes.len())?,
            failed: 0,
        })
    }
}

/// The opcodes of RFC 7143 §11.2.1.2: each of them must be in the capture.
const OPCODES: &[(u8, &str)] = &[
    (0x00, "NOP-Out"),
    (0x01, "SCSI Command"),
    (0x02, "Task Management Request"),
    (0x03, "Login Request"),
    (0x04, "Text Request"),
    (0x05, "SCSI Data-Out"),
    (0x06, "Logout Request"),
    (0x10, "SNACK Request"),
    (0x20, "NOP-In"),
    (0x21, "SCSI Response"),
    (0x22, "Task Management Response"),
    (0x23, "Login Response"),
    (0x24, "Text Response"),
    (0x25, "SCSI Data-In"),
    (0x26, "Logout Response"),
    (0x31, "Ready To Transfer"),
    (0x32, "Asynchronous Message"),
    (0x3f, "Reject"),
];

fn name(opcode: u8) -> &'static str {
    let known = OPCODES.iter().find(|(known, _)| *known == opcode);
    known.map_or("reserved", |(_, name)| name)
}
