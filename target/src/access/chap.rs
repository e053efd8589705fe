//! Secrets that initiators have to know (RFC 7143 §12.1.3 and §9.2.1).

use std::fmt;
use std::sync::Arc;

use iscsi_proto::login::{Account, Algorithm};
use iscsi_proto::name::IscsiName;

/// Accounts of one export.
const MAX_ACCOUNTS: usize = 1024;

/// Initiators prove that they know a secret, and the target proves itself to those that want it to. Rules that exist
/// are sound: no secret serves in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapRules {
    accounts: Vec<Account>,
    mutual: Option<Account>,
    algorithms: Vec<Algorithm>,
}

/// Why rules are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapRulesError {
    /// Nobody could log in.
    #[error("CHAP needs an account")]
    NoAccount,
    /// More accounts than there can be.
    #[error("there are more than {MAX_ACCOUNTS} accounts")]
    TooManyAccounts,
    /// Nobody could log in.
    #[error("CHAP needs an algorithm")]
    NoAlgorithm,
    /// An account must have one secret.
    #[error("there are two accounts of the name {0:?}")]
    SameName(String),
    /// Whoever knows a secret of both directions can pass off as the other side (RFC 7143 §9.2.1).
    #[error(
        "the target's own secret is also that of the account {0:?}: each direction needs a secret of its own"
    )]
    SecretOfBothDirections(String),
}

impl ChapRules {
    /// One of `accounts` must be proven with one of `algorithms`; with `mutual` the target proves itself.
    pub fn new(
        accounts: Vec<Account>,
        mutual: Option<Account>,
        algorithms: Vec<Algorithm>,
    ) -> Result<Self, ChapRulesError> {
        if accounts.is_empty() {
            return Err(ChapRulesError::NoAccount);
        }
        if accounts.len() > MAX_ACCOUNTS {
            return Err(ChapRulesError::TooManyAccounts);
        }
        if algorithms.is_empty() {
            return Err(ChapRulesError::NoAlgorithm);
        }
        for (at, account) in accounts.iter().enumerate() {
            let before = accounts.iter().take(at);
            if before.clone().any(|other| other.name == account.name) {
                return Err(ChapRulesError::SameName(account.name.clone()));
            }
            if mutual
                .as_ref()
                .is_some_and(|own| own.secret == account.secret)
            {
                return Err(ChapRulesError::SecretOfBothDirections(account.name.clone()));
            }
        }
        Ok(Self {
            accounts,
            mutual,
            algorithms,
        })
    }

    /// True if a secret that initiators prove themselves with here is one that the target proves itself with there, or
    /// the other way round.
    pub(crate) fn mixes_directions_with(&self, other: &Self) -> bool {
        let proven_by = |own: &Option<Account>, accounts: &[Account]| {
            own.as_ref()
                .is_some_and(|own| accounts.iter().any(|one| one.secret == own.secret))
        };
        proven_by(&self.mutual, &other.accounts) || proven_by(&other.mutual, &self.accounts)
    }

    /// Who may log in.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// What the target proves itself with.
    pub fn mutual(&self) -> Option<&Account> {
        self.mutual.as_ref()
    }

    /// What is allowed.
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }
}

/// Rules that follow from the name of the initiator: asked anew for every login, so that what they follow from may change
/// while the target serves.
#[derive(Clone)]
pub struct DerivedChap(Arc<Derive>);

/// The rules for an initiator, if it may come at all.
type Derive = dyn Fn(&IscsiName) -> Option<ChapRules> + Send + Sync;

impl DerivedChap {
    /// Rules as this function makes them; for whom it has none may not log in.
    pub fn new(derive: impl Fn(&IscsiName) -> Option<ChapRules> + Send + Sync + 'static) -> Self {
        Self(Arc::new(derive))
    }

    pub(crate) fn rules(&self, initiator: &IscsiName) -> Option<ChapRules> {
        (self.0)(initiator)
    }
}

impl fmt::Debug for DerivedChap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedChap")
    }
}
