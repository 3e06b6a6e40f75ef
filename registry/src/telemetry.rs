//! The log: one span a request, one event at its end, on stderr.
//!
//! | field | meaning |
//! | --- | --- |
//! | `id`, `method`, `operation`, `account`, `repository` | the span `request`; the last three as soon as they are known |
//! | `status`, `duration_ms` | the answer, and the time from the request's head to the last byte of the answer |
//! | `request_size_bytes`, `response_size_bytes` | bytes of the bodies that went over the wire |
//! | `complete` | false when the client left before the last byte |
//! | `client_address`, `user_agent`, `credential` | who asked; a credential by its id, never by its secret |
//! | `error` | for 5xx, the chain of causes that the client is not shown |

use std::{net::IpAddr, sync::OnceLock, time::Duration};

use config::{Log, LogFormat};
use http::{Method, StatusCode};
use tracing::{Span, field::Empty};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}; expected a level like info, or target=level directives")]
pub struct Error(#[from] tracing_subscriber::filter::ParseError);

/// Whether the settings of the log can be used.
pub fn check(log: &Log) -> Result<(), Error> {
    EnvFilter::try_new(&log.filter)?;
    Ok(())
}

/// Starts the log. A process that has one already keeps it.
pub fn init(log: &Log) -> Result<(), Error> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    // An error says that there is a log already: several servers of one test process share it.
    if tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// The filter of this process's log, which is one for the process like the log itself.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs these events from now on.
pub fn refilter(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.filter)?;
    if let Some(Err(error)) = FILTER.get().map(|handle| handle.reload(filter)) {
        tracing::warn!(%error, "the log's filter stays as it was");
    }
    Ok(())
}

/// The span of one request. `operation`, `account` and `repository` are recorded when the steps of the way know them.
pub fn request_span(id: &str, method: &Method) -> Span {
    tracing::info_span!("request", id, %method, operation = Empty, account = Empty, repository = Empty)
}

/// What is known when a request has ended.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The answer's status.
    pub status: StatusCode,
    /// From the request's head to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request's body that arrived.
    pub received: u64,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    /// Whether the answer was sent whole.
    pub complete: bool,
    /// The client's address.
    pub client: IpAddr,
    /// Its `User-Agent`, if it is text.
    pub user_agent: Option<&'a str>,
    /// The id of the credential or key that was presented and found good.
    pub credential: Option<&'a str>,
    /// For 5xx: what went wrong, with its causes ([`chain`]).
    pub error: Option<&'a str>,
}

impl Finished<'_> {
    /// Writes the event into the request's span: a warning for 5xx, else information.
    pub fn log(&self, span: &Span) {
        let status = self.status.as_u16();
        let duration_ms = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        macro_rules! event {
            ($level:expr) => {
                tracing::event!(
                    parent: span,
                    $level,
                    status,
                    duration_ms,
                    request_size_bytes = self.received,
                    response_size_bytes = self.sent,
                    complete = self.complete,
                    client_address = %self.client,
                    user_agent = self.user_agent,
                    credential = self.credential,
                    error = self.error,
                    "answered {status} in {duration_ms} ms",
                )
            };
        }
        if self.status.is_server_error() {
            event!(tracing::Level::WARN);
        } else {
            event!(tracing::Level::INFO);
        }
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Errors that show their source in their own text would say it twice.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = storage::Error::unavailable(io);
        assert_eq!(chain(&error), "the store is not available: disk on fire");
    }

    #[test]
    fn a_bad_filter_is_an_error_with_the_way_out() {
        let log = Log { filter: "hyper=loud".to_owned(), format: LogFormat::Text };
        assert!(init(&log).unwrap_err().to_string().ends_with("or target=level directives"));
    }
}
