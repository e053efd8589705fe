//! What this program proves itself with at targets of others.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use iscsi_initiator::{Credentials, Options};
use iscsi_proto::login::Account;
use iscsi_proto::name::IscsiName;
use iscsi_proto::url::IscsiUrl;

use crate::args::LoginArgs;
use crate::{names, secrets};

/// A URL from the command line.
pub(crate) fn parse(text: &str) -> Result<IscsiUrl> {
    // What stands before the @ may hold a secret.
    let open = text.rsplit('@').next().unwrap_or_default();
    text.parse()
        .with_context(|| format!("{open} is not an iSCSI URL"))
}

/// How a command logs in to where a URL points; `command` is part of its name as an initiator.
pub(crate) fn of_command(url: &IscsiUrl, command: &str, login: &LoginArgs) -> Result<Options> {
    let name = login.initiator.clone();
    let name = name.unwrap_or_else(|| names::initiator(command));
    let mut options = with_secret(name, url, login.secrets.chap_secret_file.as_deref())?;
    let secrets = &login.secrets;
    if let (Some(user), Some(file)) = (&secrets.mutual_user, &secrets.mutual_secret_file) {
        let chap = options.chap.as_mut();
        let chap = chap.context(
            "the target proves itself only to an initiator that does so: name a user in the URL",
        )?;
        chap.mutual = Some(account(user, file)?);
    }
    Ok(options)
}

/// How an initiator logs in to where a URL points, with a secret from a file if it names a user without one.
pub(crate) fn with_secret(
    name: IscsiName,
    url: &IscsiUrl,
    secret_file: Option<&Path>,
) -> Result<Options> {
    let mut options = Options::new(name);
    if let Some(file) = secret_file {
        let user = url
            .user()
            .context("whose secret the file holds is not said: iscsi://USER@HOST")?;
        ensure!(
            url.secret().is_none(),
            "the URL holds a secret already; name either that or the file"
        );
        options.chap = Some(Credentials::new(account(user, file)?));
    }
    if url.user().is_some() && url.secret().is_none() && secret_file.is_none() {
        bail!(
            "{url} names a user, but nothing names the secret: put it into a file and give --chap-secret-file FILE"
        );
    }
    options.with_user_of(url).with_context(|| url.to_string())
}

fn account(user: &str, file: &Path) -> Result<Account> {
    let mut accounts = secrets::accounts(file, Some(user))?;
    accounts
        .pop()
        .with_context(|| format!("{} holds no secret", file.display()))
}
