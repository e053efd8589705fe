//! Who is judged, from the command line; and what to do when that cannot be.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use iscsi_conformance::{Credentials, Facts, Subject, Unusable, probe};
use iscsi_proto::login::LoginStatus;
use iscsi_proto::url::IscsiUrl;

use crate::args::{ConformanceArgs, LoginArgs};
use crate::{login, names, secrets};

/// What the suite is called as an initiator.
const NAME: &str = "conformance";

/// A target and how to get in.
pub(super) struct Whom {
    pub(super) url: IscsiUrl,
    pub(super) subject: Subject,
}

impl Whom {
    /// The target of the command line; one that is not named is looked for.
    pub(super) async fn of(args: &ConformanceArgs) -> Result<Self> {
        let text = args.url.as_deref().context("no URL")?;
        let url = login::parse(text)?;
        let initiator = match &args.initiator {
            Some(Some(name)) => name.clone(),
            Some(None) | None => names::initiator(NAME),
        };
        let (chap, mutual) = credentials(args, &url)?;
        let mut whom = Self {
            subject: Subject {
                address: url.address(),
                target: String::new(),
                lun: url.lun().unwrap_or(0),
                initiator: initiator.to_string(),
                chap,
                mutual,
                patience: args
                    .bounds
                    .patience
                    .map_or(PATIENCE, Duration::from_secs_f64),
            },
            url,
        };
        match whom.url.target() {
            Some(target) => whom.subject.target = target.to_string(),
            None => {
                let mut said = format!("{} lacks the target's name", whom.url);
                said += &whom.targets(args).await;
                return Err(anyhow!(said));
            }
        }
        Ok(whom)
    }

    /// What the unit is; an error that says what to do when it cannot be judged.
    pub(super) async fn facts(&self, args: &ConformanceArgs) -> Result<Facts> {
        match probe(&self.subject).await {
            Ok(facts) => Ok(facts),
            Err(unusable) => Err(self.explain(&unusable, args).await),
        }
    }

    async fn explain(&self, unusable: &Unusable, args: &ConformanceArgs) -> Error {
        let mut said = format!("cannot judge {}: {unusable}", self.url);
        match unusable {
            Unusable::NotReached(_) => {
                said += "; is a target listening there, and may this machine reach it?";
            }
            Unusable::OtherSecret => {
                said += "; does the file of --mutual-secret-file hold the secret that the target proves itself with? The user's own secret fits";
            }
            Unusable::OtherName(name) => {
                let _ = write!(
                    said,
                    "; the secrets fit: if the name is right, say --mutual-user {name}"
                );
            }
            Unusable::Refused(0x0203) => said += &self.targets(args).await,
            Unusable::Moved(_) => said += "; judge it there",
            Unusable::NoUnit(_) | Unusable::NoDisk(..) => {
                said +=
                    "; which one is meant stands behind the target's name: iscsi://HOST/TARGET/LUN";
            }
            Unusable::Refused(status) => {
                let [class, detail] = status.to_be_bytes();
                let status = LoginStatus { class, detail };
                let secret = login::place_of_secret(&self.url, &args.secrets);
                said += &login::advice(status, secret, &self.subject.initiator);
            }
            Unusable::NoLogin(_) => {
                said += "; is this an iSCSI portal? Most listen on port 3260";
            }
            Unusable::NotReady(_) => {}
        }
        anyhow!(said)
    }

    /// What a discovery session finds at the portal, as the end of an error.
    async fn targets(&self, args: &ConformanceArgs) -> String {
        let login = LoginArgs {
            secrets: args.secrets.clone(),
            initiator: args.initiator.clone().flatten(),
        };
        let Ok(options) = login::of_command(&self.url, NAME, &login) else {
            return format!("; the whole URL is {FORM}");
        };
        let patience = self.subject.patience * 2;
        login::targets(&self.subject.address, &options, patience, FORM).await
    }
}

/// Our account, and the target's.
fn credentials(
    args: &ConformanceArgs,
    url: &IscsiUrl,
) -> Result<(Option<Credentials>, Option<Credentials>)> {
    let given = &args.secrets;
    let account = |user: &str, secret: Vec<u8>| Credentials {
        user: user.to_owned(),
        secret: secret.into(),
    };
    let chap = match (url.user(), url.secret(), &given.chap_secret_file) {
        (None, _, None) => None,
        (None, _, Some(_)) => {
            return Err(anyhow!(
                "whose secret the file holds is not said: iscsi://USER@HOST"
            ));
        }
        (Some(user), Some(secret), None) => Some(account(user, secret.into())),
        (Some(user), None, Some(file)) => Some(account(user, secrets::of_user(file, user)?)),
        (Some(_), Some(_), Some(_)) => {
            return Err(anyhow!(
                "the URL holds a secret already; name either that or the file"
            ));
        }
        (Some(_), None, None) => {
            return Err(anyhow!(
                "{url} names a user, but nothing names the secret: put it into a file and give --chap-secret-file FILE"
            ));
        }
    };
    let mutual = match (&given.mutual_user, &given.mutual_secret_file) {
        (Some(user), Some(file)) => Some(account(user, secrets::of_user(file, user)?)),
        _ => None,
    };
    ensure!(
        mutual.is_none() || chap.is_some(),
        "the target proves itself only to an initiator that does so: name a user in the URL"
    );
    if let (Some(chap), Some(mutual)) = (&chap, &mutual) {
        ensure!(
            chap.secret != mutual.secret,
            "the secrets of {} and of {} are the same, which RFC 7143 §9.2.1 forbids: what one side sends as its proof would do for the other; give the target a secret of its own",
            chap.user,
            mutual.user
        );
    }
    Ok((chap, mutual))
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How a subject is written.
const FORM: &str = "iscsi://HOST[:PORT]/TARGET[/LUN]";
