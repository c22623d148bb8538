//! What listings may be asked: each takes those filters that it has, and refuses every other.

use serde::{Deserialize, Deserializer, de::Error as _};
use utoipa::{IntoParams, ToSchema};

use crate::{answer::Refusal, source::Filter};

/// Rows of a listing when nothing is asked, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Longest device id, in bytes (the rule of the readings crate), and longest reason.
const MAX_NAME_BYTES: usize = 64;
/// What a JSON number holds exactly: 2^53 - 1.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Which end comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Oldest,
    Newest,
}

/// How far a reading or a batch has come.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Accepted,
    Mined,
    Final,
}

/// How a reading or a batch settles.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Settlement {
    Anchor,
    Batch,
    Direct,
}

impl From<State> for String {
    fn from(state: State) -> Self {
        match state {
            State::Accepted => "accepted",
            State::Mined => "mined",
            State::Final => "final",
        }
        .into()
    }
}

impl From<Settlement> for String {
    fn from(settlement: Settlement) -> Self {
        match settlement {
            Settlement::Anchor => "anchor",
            Settlement::Batch => "batch",
            Settlement::Direct => "direct",
        }
        .into()
    }
}

fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let limit = usize::deserialize(from)?;
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(Some(limit))
    } else {
        Err(D::Error::custom(format!("limit is 1 to {MAX_LIMIT}, not {limit}")))
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = u64::deserialize(from)?;
    if number <= MAX_NUMBER {
        Ok(Some(number))
    } else {
        Err(D::Error::custom(format!("{number} is above {MAX_NUMBER}")))
    }
}

fn device<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(good) {
        return Err(D::Error::custom(format!("a device id has 1 to {MAX_NAME_BYTES} of A-Z, a-z, 0-9, _ and -")));
    }
    Ok(Some(text))
}

fn reason<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err(D::Error::custom(format!("a reason has 1 to {MAX_NAME_BYTES} of a-z and _")));
    }
    Ok(Some(text))
}

fn account<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() != 40 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(D::Error::custom("an account is 0x and 40 hex digits"));
    }
    Ok(Some(text))
}

/// A listing's query, with its place in [`Filter`].
macro_rules! query {
    ($(#[$what:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty => $place:ident $(as $convert:expr)?,)* }) => {
        $(#[$what])*
        #[derive(Debug, Default, Deserialize, IntoParams)]
        #[serde(deny_unknown_fields, default)]
        #[into_params(parameter_in = Query)]
        pub(super) struct $name {
            /// Rows at most.
            #[serde(deserialize_with = "limit")]
            #[param(minimum = 1, maximum = 1000, default = 100)]
            limit: Option<usize>,
            $($(#[$attribute])* $field: Option<$kind>,)*
        }

        impl $name {
            pub(super) fn filter(self) -> Filter {
                let mut filter = Filter { limit: self.limit.unwrap_or(DEFAULT_LIMIT), ..Filter::default() };
                $(query!(@set filter, self, $field, $place $(, $convert)?);)*
                filter
            }
        }
    };
    (@set $filter:ident, $self:ident, $field:ident, newest) => {
        $filter.newest = $self.$field == Some(Order::Newest);
    };
    (@set $filter:ident, $self:ident, $field:ident, $place:ident) => {
        $filter.$place = $self.$field.map(Into::into);
    };
    (@set $filter:ident, $self:ident, $field:ident, $place:ident, $convert:expr) => {
        $filter.$place = $self.$field.map($convert);
    };
}

query! {
    /// Of devices.
    Devices {
        /// Rows after this one: what the `Link` header of the answer before says.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        after: u64 => after as |row| row.to_string(),
        /// Which end comes first.
        #[param(inline)]
        order: Order => newest,
        /// Only this one.
        #[serde(deserialize_with = "device")]
        #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
        device: String => device,
        /// Only those that settle so.
        #[param(inline)]
        settlement: Settlement => settlement,
    }
}

query! {
    /// Of readings.
    Readings {
        /// Only this batch's.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        batch: u64 => batch,
        /// Rows after this one: what the `Link` header of the answer before says.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        after: u64 => after as |row| row.to_string(),
        /// Which end comes first.
        #[param(inline)]
        order: Order => newest,
        /// Only this device's.
        #[serde(deserialize_with = "device")]
        #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
        device: String => device,
        /// Only those that have come so far.
        #[param(inline)]
        state: State => state,
        /// Only those that settle so.
        #[param(inline)]
        settlement: Settlement => settlement,
        /// Only those received at or after this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        since: u64 => since_ms,
        /// Only those received before this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        until: u64 => until_ms,
    }
}

query! {
    /// Of batches.
    Batches {
        /// Rows after this one: what the `Link` header of the answer before says.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        after: u64 => after as |row| row.to_string(),
        /// Which end comes first.
        #[param(inline)]
        order: Order => newest,
        /// Only those that have come so far.
        #[param(inline)]
        state: State => state,
        /// Only those that settle so.
        #[param(inline)]
        settlement: Settlement => settlement,
        /// Only those built at or after this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        since: u64 => since_ms,
        /// Only those built before this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        until: u64 => until_ms,
    }
}

query! {
    /// Of lanes.
    Lanes {
        /// Rows after this account: what the `Link` header of the answer before says.
        #[serde(deserialize_with = "account")]
        #[param(pattern = "^0x[0-9a-fA-F]{40}$")]
        after: String => after,
        /// Only the account of this device.
        #[serde(deserialize_with = "device")]
        #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
        device: String => device,
    }
}

query! {
    /// Of quarantined input.
    Quarantine {
        /// Rows after this one: what the `Link` header of the answer before says.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        after: u64 => after as |row| row.to_string(),
        /// Which end comes first.
        #[param(inline)]
        order: Order => newest,
        /// Only this device's.
        #[serde(deserialize_with = "device")]
        #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
        device: String => device,
        /// Only what was refused for this reason.
        #[serde(deserialize_with = "reason")]
        #[param(pattern = "^[a-z_]{1,64}$")]
        reason: String => reason,
        /// Only what came at or after this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        since: u64 => since_ms,
        /// Only what came before this unix millisecond.
        #[serde(deserialize_with = "number")]
        #[param(maximum = 9007199254740991_u64)]
        until: u64 => until_ms,
    }
}

/// A row's number in a path.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Row(u64);

impl Row {
    pub(super) fn get(self) -> Result<u64, Refusal> {
        if self.0 <= MAX_NUMBER {
            Ok(self.0)
        } else {
            Err(Refusal::bad_request(format!("{} is above {MAX_NUMBER}", self.0)))
        }
    }
}
