//! Values and the result functions of keys (RFC 7143 §6.2.1, §6.2.2 and §13).

use crate::params::{Kind, parse_number};

/// What one end would like a key to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// One of these.
    List(&'static [&'static str]),
    /// This, if it may choose.
    Flag(bool),
    /// At most, or at least, this.
    Number(u32),
}

/// What a key was settled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Choice(&'static str),
    Flag(bool),
    Number(u32),
}

impl Wish {
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::List(choices) => choices.join(","),
            Self::Flag(flag) => Value::Flag(flag).to_text(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Value {
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Choice(choice) => choice.to_owned(),
            Self::Flag(flag) => (if flag { YES } else { NO }).to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The value that an accepter selects, if the proposed one is admissible.
pub(crate) fn select(kind: Kind, proposed: &str, wish: Wish) -> Option<Value> {
    Some(match (kind, wish) {
        (Kind::List, Wish::List(choices)) => {
            let known = |value: &str| choices.iter().find(|&&choice| choice == value);
            Value::Choice(proposed.split(',').find_map(known)?)
        }
        (Kind::And, Wish::Flag(wish)) => Value::Flag(boolean(proposed)? && wish),
        (Kind::Or, Wish::Flag(wish)) => Value::Flag(boolean(proposed)? || wish),
        (Kind::Minimum(low, high), Wish::Number(wish)) => {
            Value::Number(number_within(proposed, low, high)?.min(wish))
        }
        (Kind::Maximum(low, high), Wish::Number(wish)) => {
            Value::Number(number_within(proposed, low, high)?.max(wish))
        }
        _ => return None,
    })
}

/// The value that an accepter has selected, if it may select it.
pub(crate) fn verify(kind: Kind, proposed: Wish, selected: &str) -> Option<Value> {
    let value = match (kind, proposed) {
        (Kind::And | Kind::Or, _) => Value::Flag(boolean(selected)?),
        (Kind::Minimum(low, high) | Kind::Maximum(low, high), _) => {
            Value::Number(number_within(selected, low, high)?)
        }
        (_, Wish::List(choices)) => {
            Value::Choice(choices.iter().find(|&&choice| choice == selected)?)
        }
        _ => return None,
    };
    (tighten(kind, value, proposed) == value).then_some(value)
}

/// The result function of a key's kind (RFC 7143 §13).
pub(crate) fn tighten(kind: Kind, value: Value, wish: Wish) -> Value {
    match (kind, value, wish) {
        (Kind::And, Value::Flag(value), Wish::Flag(wish)) => Value::Flag(value && wish),
        (Kind::Or, Value::Flag(value), Wish::Flag(wish)) => Value::Flag(value || wish),
        (Kind::Minimum(..), Value::Number(value), Wish::Number(wish)) => {
            Value::Number(value.min(wish))
        }
        (Kind::Maximum(..), Value::Number(value), Wish::Number(wish)) => {
            Value::Number(value.max(wish))
        }
        _ => value,
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        YES => Some(true),
        NO => Some(false),
        _ => None,
    }
}

pub(crate) fn number_within(value: &str, low: u32, high: u32) -> Option<u32> {
    u32::try_from(parse_number(value)?)
        .ok()
        .filter(|number| (low..=high).contains(number))
}

const YES: &str = "Yes";
const NO: &str = "No";
/// The digest, and the list without one.
pub(crate) const CRC32C: &str = "CRC32C";
pub(crate) const NONE: &str = "None";
/// The authentication method (RFC 7143 §12.1).
pub(crate) const CHAP: &str = "CHAP";
