//! The key=value pairs of a login or a text exchange, as they were sent.

use iscsi_proto::wire::text;

use crate::check::Finding;

/// Pairs in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) Vec<(String, String)>);

impl Keys {
    /// Pairs written down in a check.
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }

    /// The pairs of a text segment.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        text::parse(bytes).map(Self).map_err(|error| {
            Finding::Violation(format!("what should be key=value pairs is not: {error}"))
        })
    }

    /// The value of a key that was sent once or more; the first.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(name, _)| name == key);
        pairs.map(|(_, value)| value.as_str())
    }

    /// The number that a key has as its value.
    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        self.get(key)?.parse().ok()
    }

    /// Sets a key, once, in its place.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// The text segment.
    pub(crate) fn encode(&self) -> bytes::Bytes {
        text::encode(&self.0)
    }
}
