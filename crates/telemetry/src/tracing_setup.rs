//! Where log lines go and what they look like.

use std::{
    env,
    io::{IsTerminal, stderr},
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

/// The environment variable that replaces the default filter, as in every `tracing` program.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Logging could not be set up. The process should not start without it.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// The filter, from `RUST_LOG` or the default, is none: correct it.
    #[error("log filter {filter:?} is not valid")]
    Filter {
        /// The text that was read.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A subscriber is set already: this is to be called once per process.
    #[error("logging is set up already")]
    AlreadySet(#[source] TryInitError),
}

/// Sends events of this process to standard error; standard output stays free for results.
///
/// `RUST_LOG` wins over `default_filter` when it is set and not empty.
///
/// # Errors
/// [`TracingError`] when the filter cannot be read or a subscriber is set already.
pub fn init_tracing(format: Format, default_filter: &str) -> Result<(), TracingError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = filter(env::var(FILTER_VARIABLE).ok(), default_filter)?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    match format {
        Format::Human => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).with_ansi(false).finish().try_init(),
    }
    .map_err(TracingError::AlreadySet)
}

fn filter(from_environment: Option<String>, default_filter: &str) -> Result<EnvFilter, TracingError> {
    let text = from_environment.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| default_filter.to_owned());
    EnvFilter::try_new(&text).map_err(|source| TracingError::Filter { filter: text, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_when_it_says_something() {
        let chosen = |environment: Option<&str>| filter(environment.map(str::to_owned), "warn").unwrap().to_string();
        assert_eq!(chosen(None), "warn");
        assert_eq!(chosen(Some(" ")), "warn");
        assert_eq!(chosen(Some("debug")), "debug");
    }

    #[test]
    fn a_wrong_filter_is_an_error_that_names_it() {
        let error = filter(None, "windlass=loud").unwrap_err();
        assert!(error.to_string().contains("windlass=loud"), "{error}");
    }

    #[test]
    fn a_second_set_up_is_refused() {
        init_tracing(Format::Json, "warn").unwrap();
        let again = init_tracing(Format::Human, "warn");
        assert!(matches!(again, Err(TracingError::AlreadySet(_))), "{again:?}");
    }
}
