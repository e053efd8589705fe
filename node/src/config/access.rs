//! Who may log in: `initiators`, `networks`, `chap` and `redirect`, wherever they stand.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use iscsi_proto::login::Algorithm;
use iscsi_target::{NamePattern, Network, PortalAddress, Redirect};
use serde::Deserialize;

use super::written;

/// `[access]` and `[discovery]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessSection {
    #[serde(default, deserialize_with = "written::list")]
    pub(crate) initiators: Vec<NamePattern>,
    #[serde(default, deserialize_with = "written::list")]
    pub(crate) networks: Vec<Network>,
    pub(crate) chap: Option<ChapSection>,
}

/// `[target.chap]`, `[access.chap]` and `[discovery.chap]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ChapSection {
    pub(crate) user: Option<String>,
    pub(crate) secret_file: PathBuf,
    pub(crate) mutual_user: Option<String>,
    pub(crate) mutual_secret_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "written::algorithms")]
    pub(crate) algorithms: Vec<Algorithm>,
}

/// `[[target.redirect]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RedirectSection {
    #[serde(deserialize_with = "written::one")]
    address: PortalAddress,
    #[serde(default)]
    permanent: bool,
    #[serde(default)]
    authenticated: bool,
    #[serde(default, deserialize_with = "written::list")]
    initiators: Vec<NamePattern>,
}

/// Who may log in, as far as that can be said without opening files. The default lets everybody in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Initiators that may log in; all if none is named.
    pub(crate) initiators: Vec<NamePattern>,
    /// Where they may come from; anywhere if none is named.
    pub(crate) networks: Vec<Network>,
    /// What they have to prove.
    pub(crate) chap: Option<Chap>,
    /// Who is sent elsewhere.
    pub(crate) redirects: Vec<Redirect>,
}

/// Where the secrets of CHAP are.
#[derive(Clone, Debug)]
pub(crate) struct Chap {
    /// The name of the one account; without it the file names them.
    pub(crate) user: Option<String>,
    /// What initiators have to know.
    pub(crate) secret_file: PathBuf,
    /// The target's own name, and what it proves itself with.
    pub(crate) mutual: Option<(String, PathBuf)>,
    /// What will do.
    pub(crate) algorithms: Vec<Algorithm>,
}

impl AccessSection {
    pub(super) fn check(self, folder: &Path) -> Result<Access> {
        Ok(Access {
            initiators: self.initiators,
            networks: self.networks,
            chap: self.chap.map(|chap| chap.check(folder)).transpose()?,
            redirects: Vec::new(),
        })
    }
}

impl ChapSection {
    pub(super) fn check(self, folder: &Path) -> Result<Chap> {
        let mutual = match (self.mutual_user, self.mutual_secret_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some((user, folder.join(file))),
            _ => bail!("`mutual-user` and `mutual-secret-file` need each other"),
        };
        let names = self.user.iter().chain(mutual.iter().map(|(name, _)| name));
        for name in names {
            check_user(name)?;
        }
        Ok(Chap {
            user: self.user,
            secret_file: folder.join(self.secret_file),
            mutual,
            algorithms: if self.algorithms.is_empty() {
                Algorithm::ALL.to_vec()
            } else {
                self.algorithms
            },
        })
    }
}

impl From<RedirectSection> for Redirect {
    fn from(section: RedirectSection) -> Self {
        Self {
            initiators: section.initiators,
            address: section.address,
            permanent: section.permanent,
            after_authentication: section.authenticated,
        }
    }
}

/// Checks the name of an account: what fits into the value of a key (RFC 7143 §6.1).
pub(crate) fn check_user(name: &str) -> Result<()> {
    let good = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
    ensure!(
        good,
        "{name:?} is no name for CHAP: use 1 to 255 printable characters"
    );
    Ok(())
}

/// A redirect as the command line has it: `HOST[:PORT][,permanent][,authenticated][,initiator=PATTERN]...`.
pub(crate) fn redirect(text: &str) -> Result<Redirect, String> {
    let mut words = text.split(',');
    let address = words.next().unwrap_or_default();
    let mut redirect = Redirect {
        initiators: Vec::new(),
        address: address
            .parse()
            .map_err(|error| format!("`{address}`: {error}"))?,
        permanent: false,
        after_authentication: false,
    };
    for word in words {
        match (word, word.split_once('=')) {
            ("permanent", _) => redirect.permanent = true,
            ("authenticated", _) => redirect.after_authentication = true,
            (_, Some(("initiator", pattern))) => {
                let pattern = pattern
                    .parse()
                    .map_err(|error| format!("`{pattern}`: {error}"))?;
                redirect.initiators.push(pattern);
            }
            _ => {
                return Err(format!(
                    "`{word}` is none of permanent, authenticated and initiator=PATTERN"
                ));
            }
        }
    }
    Ok(redirect)
}
