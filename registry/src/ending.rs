//! How a request ends: one event, one measurement, one span, whether it was answered or its client left first.

use std::{net::IpAddr, sync::Arc, time::Duration};

use config::HostName;
use http::{StatusCode, header, request::Parts};
use tracing::Span;

use crate::{
    App,
    body::{Lent, Sent},
    metrics::Counted,
    oci::text,
    server::Peer,
    telemetry,
};

/// What the steps learn about a request.
#[derive(Default)]
pub(crate) struct Known {
    /// Its name in logs and metrics.
    pub(crate) operation: Option<&'static str>,
    /// The id of the credential or key that was presented and found good.
    pub(crate) credential: Option<String>,
    /// The client's address, once the proxies before it are accounted for.
    pub(crate) client: Option<IpAddr>,
    /// The host that was asked, and its URL.
    pub(crate) host: Option<(HostName, String)>,
    /// What a `Warning` tells the client.
    pub(crate) warning: Option<String>,
    /// What a challenge asks for; `Some` under `/v2`.
    pub(crate) scopes: Option<auth::Scopes>,
    /// For 5xx: what went wrong, with its causes, which the client is not shown.
    pub(crate) hidden: Option<String>,
}

/// A request under way. It ends when the last byte of its answer has gone, or when it is dropped because nobody waits any more.
pub(crate) struct Ending {
    app: Arc<App>,
    pub(crate) known: Known,
    span: Span,
    started: Duration,
    user_agent: Option<String>,
    address: IpAddr,
    body: Option<Lent>,
    received: u64,
    status: Option<StatusCode>,
    ended: bool,
    _in_flight: Counted,
}

impl Ending {
    /// A request whose head has just come.
    pub(crate) fn new(app: &Arc<App>, parts: &Parts, peer: &Peer, body: &Lent) -> Self {
        Self {
            app: Arc::clone(app),
            known: Known::default(),
            span: Span::current(),
            started: app.clock.elapsed(),
            user_agent: text(&parts.headers, header::USER_AGENT).map(str::to_owned),
            address: peer.address.ip(),
            body: Some(body.clone()),
            received: 0,
            status: None,
            ended: false,
            _in_flight: app.metrics.in_flight(),
        }
    }

    /// The answer begins: the request has been read as far as it ever will be.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.received = self.body.take().map(|body| body.received()).unwrap_or_default();
    }

    /// The last byte of the answer has gone, or its client has.
    pub(crate) fn sent(mut self, sent: Sent) {
        self.end(sent);
    }

    fn end(&mut self, sent: Sent) {
        self.ended = true;
        let (metrics, known) = (&self.app.metrics, &self.known);
        let status = self.status.unwrap_or(telemetry::CLIENT_LEFT);
        let received = self.body.take().map_or(self.received, |body| body.received());
        let duration = self.app.clock.elapsed().saturating_sub(self.started);
        let operation = known.operation.unwrap_or("none");
        metrics.request(operation, status, duration);
        metrics.received(received);
        metrics.sent(sent.bytes);
        if !sent.complete {
            metrics.incomplete(operation);
        }
        let finished = telemetry::Finished {
            status,
            duration,
            received,
            sent: sent.bytes,
            complete: sent.complete,
            client: known.client.unwrap_or(self.address),
            user_agent: self.user_agent.as_deref(),
            credential: known.credential.as_deref(),
            error: known.hidden.as_deref(),
        };
        finished.log(&self.span);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Sent { bytes: 0, complete: false });
        }
    }
}
