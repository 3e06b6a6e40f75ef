//! The log: one span a request, one event at its end, on stderr. [`FIELDS`] is the list of what an event may say.

use std::{net::IpAddr, sync::OnceLock, time::Duration};

use config::{Log, LogFormat};
use http::{Method, StatusCode};
use tracing::{Span, field::Empty};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::traces::{self, Traces};

/// The fields of a request's event, and their meaning; those of the span first.
pub const FIELDS: &[(&str, &str)] = &[
    ("id", "names the request; the client has it as `X-Request-Id`"),
    ("method", "the request's method"),
    ("operation", "what was asked for, from a closed list: `blob_get`, `manifest_put`, `account_list`, …"),
    ("account", "the account whose repository was asked for"),
    ("repository", "the repository, account included"),
    ("status", "the answer's status; 499: the client left before it was answered"),
    ("duration_ms", "from the head of the request to the last byte of the answer"),
    ("request_size_bytes", "bytes of the request's body that arrived"),
    ("response_size_bytes", "bytes of the answer's body that were sent"),
    ("complete", "false when the client left, or the store failed, before the last byte"),
    ("client_address", "who asked; behind a trusted proxy the client that it names"),
    ("user_agent", "the client's `User-Agent`"),
    ("credential", "the credential or key that was presented and found good, by its id"),
    ("error", "for 5xx, what went wrong with its causes, which the client is not told"),
];
/// How many of [`FIELDS`] belong to the span.
pub const SPAN_FIELDS: usize = 5;

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}; expected a level like info, or target=level directives")]
pub struct Error(#[from] tracing_subscriber::filter::ParseError);

/// Whether the settings of the log can be used.
pub fn check(log: &Log) -> Result<(), Error> {
    EnvFilter::try_new(&log.filter)?;
    Ok(())
}

/// Starts the log, and the traces beside it. A process that has a log already keeps it.
pub fn init(log: &Log, traces: Option<&Traces>) -> Result<(), Error> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    let spans = traces.map(|traces| {
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer());
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        layer.with_filter(filter::filter_fn(|of| of.is_span() && (of.name() == REQUEST || of.target() == STORE)))
    });
    // An error says that there is a log already: several servers of one test process share it.
    if tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init().is_ok() {
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

/// The name of a request's span.
pub(crate) const REQUEST: &str = "request";
/// The target of the spans of the store's calls.
pub(crate) const STORE: &str = "hythe::store";
/// The status of a request whose client left before it was answered, by nginx's custom.
pub(crate) const CLIENT_LEFT: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

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
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).into();
        traces::ended(
            span,
            [
                ("http.response.status_code", Some(i64::from(status).into())),
                ("http.request.body.size", Some(signed(self.received))),
                ("http.response.body.size", Some(signed(self.sent))),
                ("client.address", Some(self.client.to_string().into())),
                ("user_agent.original", self.user_agent.map(|agent| agent.to_owned().into())),
                ("credential", self.credential.map(|credential| credential.to_owned().into())),
                ("error", self.error.map(|error| error.to_owned().into())),
            ],
        );
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
        assert!(init(&log, None).unwrap_err().to_string().ends_with("or target=level directives"));
    }
}
