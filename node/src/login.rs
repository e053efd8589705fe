//! What this program proves itself with at targets of others.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use iscsi_initiator::{Credentials, Options, discover};
use iscsi_proto::login::LoginStatus;
use iscsi_proto::name::IscsiName;
use iscsi_proto::url::IscsiUrl;
use tokio::time::timeout;

use crate::args::{LoginArgs, SecretArgs};
use crate::{names, secrets};

/// A URL from the command line.
pub(crate) fn parse(text: &str) -> Result<IscsiUrl> {
    // What stands before the @ may hold a secret.
    let open = match text.rsplit_once('@') {
        Some((_, open)) => format!("iscsi://...@{open}"),
        None => text.to_owned(),
    };
    // A scheme is written in letters of either case (RFC 3986 §3.1).
    let url = match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if is_url(text) => format!("{}{rest}", scheme.to_ascii_lowercase()),
        _ => text.to_owned(),
    };
    url.parse()
        .with_context(|| format!("{open} is not an iSCSI URL"))
}

/// True if an argument is a URL, and not a path.
pub(crate) fn is_url(text: &str) -> bool {
    text.get(..SCHEME.len())
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// How a URL begins.
const SCHEME: &str = "iscsi://";

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
        chap.mutual = Some(secrets::account(file, user)?);
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
        options.chap = Some(Credentials::new(secrets::account(file, user)?));
    }
    if url.user().is_some() && url.secret().is_none() && secret_file.is_none() {
        bail!(
            "{url} names a user, but nothing names the secret: put it into a file and give --chap-secret-file FILE"
        );
    }
    options.with_user_of(url).with_context(|| url.to_string())
}

/// Where the secret of a URL's user is, as an error tells it; `None` if nothing names a user.
pub(crate) fn place_of_secret(url: &IscsiUrl, secrets: &SecretArgs) -> Option<String> {
    url.user()?;
    Some(match &secrets.chap_secret_file {
        Some(file) => format!("in {}", file.display()),
        None => "in the URL".to_owned(),
    })
}

/// What to do when a login was refused, as the end of an error; empty where nothing can be said. `secret` is where the
/// one is that was used.
pub(crate) fn advice(status: LoginStatus, secret: Option<String>, initiator: &str) -> String {
    match (status, secret) {
        (LoginStatus::AUTHENTICATION_FAILURE, Some(place)) => format!(
            "; it does not know the user of the URL, or the secret of that user {place} does not fit"
        ),
        (LoginStatus::AUTHENTICATION_FAILURE, None) => {
            "; if it asks for CHAP, name the user in the URL, iscsi://USER@HOST..., and its secret by --chap-secret-file FILE".to_owned()
        }
        (LoginStatus::AUTHORIZATION_FAILURE, _) => {
            format!("; let {initiator} in there, or say --initiator IQN with a name that it knows")
        }
        _ => String::new(),
    }
}

/// What a discovery session finds at a portal, as the end of an error that a URL names no target there; `form` is how
/// the whole URL is written.
pub(crate) async fn targets(
    address: &str,
    options: &Options,
    patience: Duration,
    form: &str,
) -> String {
    let how = format!("; the whole URL is {form}");
    match timeout(patience, discover(address, options)).await {
        Ok(Ok(records)) if records.is_empty() => {
            format!("{how}, and a discovery session finds no target that we may see")
        }
        Ok(Ok(records)) => {
            let mut text = format!("{how}, and a discovery session finds");
            for record in records.iter().take(MOST_NAMED) {
                let _ = write!(text, "\n  {}", record.name);
            }
            if records.len() > MOST_NAMED {
                let _ = write!(text, "\n  and {} more", records.len() - MOST_NAMED);
            }
            text
        }
        Ok(Err(error)) => format!("{how}; a discovery session fails: {error}"),
        Err(_late) => how,
    }
}

/// The most targets that an error lists.
const MOST_NAMED: usize = 10;
