//! Secrets of CHAP, read from files that nobody else can read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use iscsi_proto::login::{Account, Secret};
use iscsi_target::{AccessRules, ChapRules};

use crate::config::{Access, Chap, check_user};

/// The longest file of secrets.
const MOST_BYTES: u64 = 256 * 1024;

/// What others may do with a file.
const OTHERS: u32 = 0o007;

/// Rules of access with their secrets.
pub(crate) fn rules(access: &Access) -> Result<AccessRules> {
    Ok(AccessRules {
        initiators: access.initiators.clone(),
        networks: access.networks.clone(),
        chap: access.chap.as_ref().map(chap).transpose()?,
        redirects: access.redirects.clone(),
        derived_chap: None,
    })
}

fn chap(chap: &Chap) -> Result<ChapRules> {
    let known = accounts(&chap.secret_file, chap.user.as_deref())?;
    let mutual = match &chap.mutual {
        None => None,
        Some((user, file)) => accounts(file, Some(user))?.pop(),
    };
    ChapRules::new(known, mutual, chap.algorithms.clone())
        .with_context(|| chap.secret_file.display().to_string())
}

/// The accounts of a file: its one secret under a name, or lines `USER:SECRET`.
pub(crate) fn accounts(path: &Path, user: Option<&str>) -> Result<Vec<Account>> {
    let text = read(path)?;
    let mut accounts = Vec::new();
    for (number, name, secret) in entries(path, &text, user)? {
        let place = || format!("{}:{number}", path.display());
        check_user(name).with_context(place)?;
        let length = secret.len();
        let secret = Secret::new(secret)
            .with_context(|| format!("{}: the secret of `{name}` has {length} bytes", place()))?;
        let name = name.to_owned();
        accounts.push(Account { name, secret });
    }
    Ok(accounts)
}

/// The account of a user: a file's one secret, or the line `USER:SECRET` of a file of several accounts.
pub(crate) fn account(path: &Path, user: &str) -> Result<Account> {
    let text = read(path)?;
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let is_one = lines.clone().count() == 1;
    let names = |line: &str| line.split_once(':').is_some_and(|(name, _)| name == user);
    let form = (is_one && !lines.any(names)).then_some(user);
    let found = accounts(path, form)?
        .into_iter()
        .find(|known| known.name == user);
    found.with_context(|| format!("{} holds no secret of `{user}`", path.display()))
}

/// The one secret of a file, whatever its length.
pub(crate) fn of_user(path: &Path, user: &str) -> Result<Vec<u8>> {
    let text = read(path)?;
    let mut entries = entries(path, &text, Some(user))?;
    let entry = entries.pop();
    let (_, _, secret) = entry.with_context(|| format!("{} holds no secret", path.display()))?;
    Ok(secret.into())
}

/// Line, user and secret of each account of a file.
fn entries<'a>(
    path: &Path,
    text: &'a str,
    user: Option<&'a str>,
) -> Result<Vec<(u32, &'a str, &'a str)>> {
    let lines: Vec<_> = (1u32..)
        .zip(text.lines())
        .filter(|(_, line)| !line.is_empty())
        .collect();
    ensure!(!lines.is_empty(), "{} holds no secret", path.display());
    if let (Some(user), Some((number, _))) = (user, lines.get(1)) {
        bail!(
            "{}:{number}: a second line; the file of one user holds the secret of `{user}` alone",
            path.display()
        );
    }
    if let (Some(user), Some((number, line))) = (user, lines.first()) {
        ensure!(
            line.split_once(':').is_none_or(|(name, _)| name != user),
            "{}:{number}: `{user}:` would be part of the secret: leave it out here, or do not name the user",
            path.display()
        );
    }
    let mut entries = Vec::new();
    for (number, line) in lines {
        let (name, secret) = match user {
            Some(user) => (user, line),
            None if line.starts_with('#') => continue,
            None => line.split_once(':').with_context(|| {
                format!(
                    "{}:{number}: not USER:SECRET; if it is a secret, name its user",
                    path.display()
                )
            })?,
        };
        entries.push((number, name, secret));
    }
    Ok(entries)
}

/// The text of a file that nobody else can read.
pub(crate) fn read(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let found = file.metadata()?;
    let mode = found.mode() & 0o777;
    ensure!(
        mode & OTHERS == 0,
        "{0} holds secrets, but others may use it (mode {mode:03o}): chmod 600 {0}",
        path.display()
    );
    let mut text = String::new();
    file.take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        text.len() as u64 <= MOST_BYTES,
        "{} is longer than {MOST_BYTES} bytes",
        path.display()
    );
    Ok(text)
}
