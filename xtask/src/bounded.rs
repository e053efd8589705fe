//! Running a program to its end, within a time limit.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(20);

/// What a program left behind.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs a program and keeps what it prints; it is ended when it takes longer than `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<Finished> {
    output_with(command, Stdio::null(), limit)
}

/// Like [`output`], and a bad exit is an error that shows what the program printed.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<Finished> {
    succeed_with(command, Stdio::null(), limit)
}

/// Like [`succeed`], with something to read on standard input.
pub(crate) fn succeed_with(
    command: &mut Command,
    stdin: Stdio,
    limit: Duration,
) -> Result<Finished> {
    let finished = output_with(command, stdin, limit)?;
    ensure!(
        finished.status.success(),
        "{}: {}\n{}{}",
        spell(command),
        finished.status,
        finished.text(),
        finished.stderr
    );
    Ok(finished)
}

fn output_with(command: &mut Command, stdin: Stdio, limit: Duration) -> Result<Finished> {
    let ran = run(command, stdin, limit)?;
    match ran.status {
        Some(status) => Ok(Finished {
            status,
            stdout: ran.stdout,
            stderr: ran.stderr,
        }),
        None => bail!("{}: not done after {} s", spell(command), limit.as_secs()),
    }
}

/// What a program left behind that may have been ended for taking too long.
pub(crate) struct Ran {
    /// Nothing when it was ended.
    pub(crate) status: Option<ExitStatus>,
    stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// How it ended, in words.
    pub(crate) fn ending(&self) -> String {
        self.status.map_or_else(
            || "being ended: it took too long".to_owned(),
            |status| status.to_string(),
        )
    }
}

/// Runs a program and keeps what it prints, also when it takes longer than `limit` and is ended.
pub(crate) fn until(command: &mut Command, limit: Duration) -> Result<Ran> {
    run(command, Stdio::null(), limit)
}

fn run(command: &mut Command, stdin: Stdio, limit: Duration) -> Result<Ran> {
    let name = spell(command);
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = poll(&mut child, limit)?;
    if status.is_none() {
        end(&mut child)?;
    }
    let stdout = stdout.join().unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
    Ok(Ran {
        status,
        stdout,
        stderr,
    })
}

/// Runs a program that prints to this terminal.
pub(crate) fn show(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", spell(command)))?;
    let status = wait(&mut child, limit).with_context(|| spell(command))?;
    ensure!(status.success(), "{}: {status}", spell(command));
    Ok(())
}

/// Runs a program and gives every line of its standard output to `each` as it comes.
pub(crate) fn lines(
    command: &mut Command,
    limit: Duration,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus> {
    let name = spell(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take().context("stdout was asked for")?;
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + limit;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => each(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                end(&mut child)?;
                bail!("{name}: not done after {} s", limit.as_secs());
            }
        }
    }
    drop(reader);
    wait(&mut child, GRACE).with_context(|| name)
}

/// Asks a program to end, and kills it when it does not; both by its own process id only.
pub(crate) fn end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_none() {
        let pid = rustix::process::Pid::from_child(child);
        // It may have ended since: then there is nobody to signal, which is as good.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if poll(child, GRACE)?.is_none() {
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(())
}

/// Waits for the end of a program, and ends it after `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    if let Some(status) = poll(child, limit)? {
        return Ok(status);
    }
    end(child)?;
    bail!("not done after {} s", limit.as_secs());
}

fn poll(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Reads all of a program's output while it runs.
pub(crate) fn drain<R: Read + Send + 'static>(from: Option<R>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error still counts as output.
            let _read = from.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// The command as one would type it.
pub(crate) fn spell(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let args = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended() {
        let error = output(Command::new("sleep").arg("1000"), Duration::from_millis(50)).err();
        assert!(format!("{:#}", error.unwrap()).contains("sleep 1000: not done"));
    }

    #[test]
    fn what_a_hanging_program_printed_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello; exec sleep 1000"]);
        let ran = until(&mut command, Duration::from_millis(300)).unwrap();
        assert_eq!((ran.status, ran.text().as_str()), (None, "hello\n"));
    }

    #[test]
    fn output_is_kept() {
        let finished = succeed(Command::new("echo").arg("hello"), GRACE).unwrap();
        assert_eq!(finished.stdout, b"hello\n");
    }

    #[test]
    fn lines_are_handed_on() {
        let mut seen = Vec::new();
        let status = lines(Command::new("printf").arg("a\nb\n"), GRACE, |line| {
            seen.push(line.to_owned());
        })
        .unwrap();
        assert!(status.success());
        assert_eq!(seen, ["a", "b"]);
    }
}
