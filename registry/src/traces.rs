//! Traces: one span a request and one for each of its calls of the store, sent to a collector by OTLP.
//!
//! Off unless the standard variables name a collector (`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`).
//! Spans leave on a thread of their own through a bounded queue: a collector that is slow or away costs spans, never a request.
//! The spans are those of the log ([`crate::telemetry`]); what a collector expects to be told in its own words is said on the
//! way out.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::{
    Key, KeyValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, Status, TracerProvider as _},
};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// What a process is called unless a variable says otherwise.
const SERVICE: &str = "hythe";
/// How long the last spans may take at the stop.
const FLUSH: Duration = Duration::from_secs(5);
/// The protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";

/// Variables that cannot be followed: one line with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A protocol that this build does not speak.
    #[error("{variable}: {value:?} is not supported; set {PROTOCOL}")]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// Anything else that the exporter refuses.
    #[error("OTEL_EXPORTER_OTLP_*: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The way out of this process for spans.
#[derive(Debug, Clone)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// As the `OTEL_*` variables say; `None` when they name no collector. `variable` reads one; the exporter reads the rest from
    /// the process's environment.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let named = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT")).is_some();
        let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let unwanted = set("OTEL_TRACES_EXPORTER").is_some_and(|value| value.trim() == "none");
        if !named || disabled || unwanted {
            return Ok(None);
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match set(name) {
                Some(value) if value.trim() != PROTOCOL => return Err(Error::Protocol { variable: name, value }),
                // The narrower one decides alone.
                Some(_) => break,
                None => {}
            }
        }
        let named_service = set("OTEL_SERVICE_NAME").is_some()
            || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !named_service {
            resource = resource.with_service_name(SERVICE);
        }
        let exporter = Otlp::builder().with_http().build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(Translated(exporter))
            .build();
        Ok(Some(Self(provider)))
    }

    /// Where spans are made.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer(SERVICE)
    }

    /// Sends what is left, a few seconds at most. Blocks.
    pub fn flush(&self) -> OTelSdkResult {
        self.0.shutdown_with_timeout(FLUSH)
    }
}

/// Makes a request's span a child of the one that its `traceparent` names (W3C Trace Context), if anybody collects spans.
pub(crate) fn continued(span: &tracing::Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // An error says that nobody collects spans.
        let _ = span.set_parent(parent);
    }
}

/// Adds to a request's span what only its end knows, in the collector's words.
pub(crate) fn ended(span: &tracing::Span, attributes: [(&'static str, Option<Value>); 7]) {
    for (name, value) in attributes {
        if let Some(value) = value {
            span.set_attribute(name, value);
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Says to collectors in OpenTelemetry's words what the log says in ours: a request's span is named by its operation and is a
/// server's, a call of the store is a client's, and a 5xx is an error.
#[derive(Debug)]
struct Translated<E>(E);

impl<E: SpanExporter> SpanExporter for Translated<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(translate);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn translate(span: &mut SpanData) {
    if span.name != crate::telemetry::REQUEST {
        span.span_kind = SpanKind::Client;
        return;
    }
    span.span_kind = SpanKind::Server;
    for attribute in &mut span.attributes {
        match attribute.key.as_str() {
            "operation" => span.name = attribute.value.to_string().into(),
            "method" => attribute.key = Key::from_static_str("http.request.method"),
            "http.response.status_code" => {
                if matches!(attribute.value, Value::I64(status) if status >= 500) {
                    span.status = Status::error("");
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Result<Option<Traces>, Error> {
        Traces::from_environment(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_collector_there_are_no_traces() {
        const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert!(asked(&[]).unwrap().is_none());
        assert!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().is_none());
        assert!(asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]).unwrap().is_none());
        assert!(asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        assert!(asked(&[ENDPOINT]).unwrap().is_some());
    }

    #[test]
    fn a_protocol_that_is_not_spoken_is_refused_by_its_variable() {
        let refused =
            asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        let text = "OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not supported; set http/protobuf";
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
}
