//! Traces reach a collector by OTLP, and a collector that is away costs nothing.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use conformance::{
    Harness, Request, Store,
    fixture::{self, Format},
    harness, push,
};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};

/// What reached it: path, content type, one header of the test's own, and the message.
type Received = Arc<Mutex<Vec<(String, String, ExportTraceServiceRequest)>>>;

/// A collector of OTLP over HTTP; gone when dropped.
struct Collector {
    address: SocketAddr,
    received: Received,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Received::default());
        let kept = Arc::clone(&received);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                connections.spawn(async move {
                    let service = service_fn(|request| keep(&kept, request));
                    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, received, _serving: serving }
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let resources = received.iter().flat_map(|(_, _, message)| message.resource_spans.clone());
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    fn resource(&self) -> Vec<KeyValue> {
        let received = self.received.lock().unwrap();
        received[0].2.resource_spans[0].resource.clone().unwrap().attributes
    }
}

async fn keep(kept: &Received, request: http::Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(header("content-type"), "application/x-protobuf");
    let message = ExportTraceServiceRequest::decode(body).unwrap();
    kept.lock().unwrap().push((head.uri.path().to_owned(), header("x-tenant").to_owned(), message));
    Ok(Response::new(Full::default()))
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        other => panic!("{name} is {other:?} in {attributes:?}"),
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test]
async fn a_push_is_a_trace_that_goes_on_where_its_client_s_began() {
    let collector = Collector::start().await;
    let mut harness = Harness::stopped(Store::Local).await;
    let endpoint = format!("http://{}", collector.address);
    harness.set(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ],
        &[],
    );
    harness.boot().await;
    let acme = harness.account("acme").await;
    let credential = acme.push().await;
    let caller = acme.caller(&credential);
    let image = fixture::image("trace", Format::Oci);
    push::bundle(&caller, "acme/web", "v1", &image).await;
    let traced = push::manifest_request("acme/web", "v2", image.root())
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("User-Agent", "traced/1.0");
    let id = caller.send(traced).await.expect(201).header("x-request-id").to_owned();
    let unsampled = Request::get("/v2/").header("traceparent", format!("00-{}-{PARENT}-00", TRACE.replace('4', "5")));
    caller.send(unsampled).await.expect(200);
    drop(acme);
    harness.stop().await;

    let received = collector.received.lock().unwrap().clone();
    assert!(received.iter().all(|(path, tenant, _)| path == "/v1/traces" && tenant == "blue"));
    let resource = collector.resource();
    assert_eq!(text(&resource, "service.name"), "hythe");
    assert_eq!(text(&resource, "service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&resource, "deployment.environment.name"), "test");

    let spans = collector.spans();
    let of_trace: Vec<_> = spans.iter().filter(|span| hex::encode(&span.trace_id) == TRACE).collect();
    let [request] = of_trace.iter().filter(|span| span.kind == SpanKind::Server as i32).collect::<Vec<_>>()[..] else {
        panic!("one span of a server in {of_trace:?}")
    };
    assert_eq!(hex::encode(&request.parent_span_id), PARENT);
    assert_eq!(request.name, "manifest_put");
    for (name, value) in [
        ("id", id.as_str()),
        ("http.request.method", "PUT"),
        ("account", "acme"),
        ("repository", "acme/web"),
        ("http.response.status_code", "201"),
        ("http.request.body.size", &image.root().size().to_string()),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "traced/1.0"),
        ("credential", &credential.username),
    ] {
        assert_eq!(text(&request.attributes, name), value, "{name}");
    }
    let calls: Vec<_> = of_trace.iter().filter(|span| span.kind == SpanKind::Client as i32).collect();
    assert!(calls.iter().all(|call| call.parent_span_id == request.span_id), "{calls:?}");
    for call in ["records.get", "records.create"] {
        assert!(calls.iter().any(|span| span.name == call), "{call} is not in {calls:?}");
    }
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["upload_open", "upload_commit", "bytes.checkpoint"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(spans.iter().all(|span| span.name != "ping"), "the client said that nobody wants this one");
    let failed = StatusCode::Error as i32;
    assert!(spans.iter().all(|span| span.status.as_ref().is_none_or(|status| status.code != failed)));
    let all = format!("{spans:?}");
    assert!(!all.contains(&credential.password), "a span holds the password");
}

#[tokio::test]
async fn a_sampler_that_is_off_sends_nothing() {
    let collector = Collector::start().await;
    let mut harness = Harness::stopped(Store::Local).await;
    let endpoint = format!("http://{}/v1/traces", collector.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ];
    harness.set(&variables, &[]);
    harness.boot().await;
    harness.stop().await;
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

/// One address where nobody listens, and one where nobody answers.
#[tokio::test]
async fn a_collector_that_is_away_costs_no_request_and_no_clean_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [harness::free_address(), silent.local_addr().unwrap()] {
        let mut harness = Harness::stopped(Store::Local).await;
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16".to_owned()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8".to_owned()),
        ];
        harness.set(&variables.each_ref().map(|(name, value)| (*name, value.as_str())), &[]);
        harness.boot().await;
        let acme = harness.account("acme").await;
        let caller = acme.caller(&acme.push().await);
        let work = async {
            for round in 0..20 {
                let image = fixture::image(&format!("away {round}"), Format::Oci);
                push::bundle(&caller, "acme/web", "v1", &image).await;
            }
        };
        // Twenty pushes with one failed export before each request would take longer.
        tokio::time::timeout(Duration::from_secs(30), work).await.expect("requests do not wait for the collector");
        drop(acme);
        harness.stop().await;
    }
}
