use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use config::Limits;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use storage::clock::SystemClock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::{
    body::{Body, Interrupted, incoming},
    metrics::Metrics,
    server::{
        Handler, Live, Peer,
        listen::Listener,
        shutdown::{Drained, Tasks},
    },
};

/// Answers with the size of what it was sent, or why it stopped; `/wait` holds its answer back until `go`.
struct Echo {
    limits: Limits,
    entered: Notify,
    go: Notify,
    /// Requests being answered, and the most there were at once.
    busy: [AtomicUsize; 2],
}

impl Handler for Echo {
    async fn handle(self: Arc<Self>, request: Request<Incoming>, _: Peer) -> Response<Body> {
        let [busy, most] = &self.busy;
        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if request.uri().path() == "/wait" {
            self.entered.notify_one();
            self.go.notified().await;
        }
        busy.fetch_sub(1, Ordering::SeqCst);
        if request.uri().path() == "/refuse" {
            return Response::new(Body::full("no"));
        }
        if request.uri().path() == "/endless" {
            let chunk = Bytes::from(vec![0; 1 << 20]);
            return Response::new(Body::stream(
                Box::pin(futures::stream::repeat_with(move || Ok(chunk.clone()))),
                1 << 50,
            ));
        }
        let mut body = incoming(request.into_body(), self.limits.body_timeout);
        let mut size = 0;
        while let Some(part) = body.next().await {
            match part {
                Ok(part) => size += part.len(),
                Err(error) => {
                    return Response::new(Body::full(match Interrupted::of(&error) {
                        Some(Interrupted::Stalled(_)) => "stalled",
                        _ => "gone",
                    }));
                }
            }
        }
        Response::new(Body::full(format!("{size} bytes")))
    }
}

struct Running {
    address: SocketAddr,
    echo: Arc<Echo>,
    tasks: Tasks,
}

const LONG: Duration = Duration::from_mins(10);

async fn start(change: impl FnOnce(&mut Limits)) -> Running {
    let mut limits = Limits {
        connections: 100,
        header_size: 16 << 10,
        header_timeout: LONG,
        idle_timeout: LONG,
        body_timeout: LONG,
        drain_timeout: LONG,
    };
    change(&mut limits);
    let listener = Listener::bind("listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    let echo =
        Arc::new(Echo { limits: limits.clone(), entered: Notify::new(), go: Notify::new(), busy: Default::default() });
    let tasks = Tasks::new();
    let metrics = Arc::new(Metrics::new(&SystemClock::new()));
    listener.serve(Arc::clone(&echo), None, Arc::new(Live::new(limits)), &tasks, metrics);
    Running { address, echo, tasks }
}

/// Sends `text` and reads until the server closes.
async fn talk(running: &Running, text: &str) -> String {
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end like any other here.
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn http_1_is_answered_and_kept_alive() {
    let running = start(|_| ()).await;
    let two = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = talk(&running, two).await;
    assert!(answer.contains("3 bytes") && answer.ends_with("0 bytes"), "{answer}");
}

#[tokio::test]
async fn http_2_is_spoken_in_the_clear_by_prior_knowledge() {
    let running = start(|_| ()).await;
    let socket = TcpStream::connect(running.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    running.tasks.spawn(connection);
    let body = Full::new(Bytes::from(vec![7; 3 << 20]));
    let request = Request::post(format!("http://{}/", running.address)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "3145728 bytes");
}

#[tokio::test]
async fn a_head_far_above_the_limit_is_not_read() {
    let running = start(|_| ()).await;
    let answer = talk(&running, &format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(33 << 10))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_hung_up_on() {
    let running = start(|limits| limits.header_timeout = Duration::from_millis(20)).await;
    assert_eq!(talk(&running, "GET / HTTP/1.1\r\nhost: a\r\nx-slow:").await, "");
    assert_eq!(talk(&running, "PR").await, "");
    assert_eq!(talk(&running, "").await, "");
}

#[tokio::test]
async fn a_connection_at_rest_is_closed() {
    let running = start(|limits| limits.idle_timeout = Duration::from_millis(20)).await;
    let answer = talk(&running, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.ends_with("0 bytes"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up_and_a_slow_one_is_not() {
    let running = start(|limits| {
        limits.body_timeout = Duration::from_millis(100);
        limits.idle_timeout = Duration::from_millis(100);
        limits.header_timeout = Duration::from_millis(100);
    })
    .await;
    let answer = talk(&running, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nab").await;
    assert!(answer.ends_with("stalled"), "{answer}");
    // Ten times as long as it may stand still, but it never does.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\nconnection: close\r\n\r\n";
    socket.write_all(head).await.unwrap();
    for _ in 0..50 {
        tick.tick().await;
        socket.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("50 bytes"), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_hung_up_on() {
    let running = start(|limits| limits.body_timeout = Duration::from_millis(50)).await;
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // Nothing is read here: the drain ends cleanly only if the server gave the connection up by itself.
    assert_eq!(running.tasks.drain(LONG).await, Drained::Clean);
}

#[tokio::test]
async fn at_the_limit_of_connections_the_next_waits_its_turn() {
    let running = start(|limits| limits.connections = 1).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    running.echo.entered.notified().await;
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answers = [String::new(), String::new()];
    for (socket, answer) in [first, second].iter_mut().zip(&mut answers) {
        running.echo.go.notify_one();
        socket.read_to_string(answer).await.unwrap();
    }
    assert!(answers.iter().all(|a| a.ends_with("0 bytes")));
    assert_eq!(running.echo.busy[1].load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_drain_lets_a_request_end_and_closes_connections_at_rest() {
    let running = start(|_| ()).await;
    let mut resting = TcpStream::connect(running.address).await.unwrap();
    resting.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut head = [0; 8];
    resting.read_exact(&mut head).await.unwrap();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.echo.entered.notified().await;
    let drain = running.tasks.drain(LONG);
    let client = async {
        let mut rest = String::new();
        resting.read_to_string(&mut rest).await.unwrap();
        running.echo.go.notify_one();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (drained, answer) = tokio::join!(drain, client);
    assert_eq!(drained, Drained::Clean);
    assert!(answer.ends_with("0 bytes"), "{answer}");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_client_that_goes_away_in_a_body_is_noticed() {
    let running = start(|_| ()).await;
    let mut socket = TcpStream::connect(running.address).await.unwrap();
    socket.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nab").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await;
    assert!(!answer.contains("bytes"), "{answer}");
    assert_eq!(running.tasks.drain(LONG).await, Drained::Clean);
}

#[tokio::test]
async fn a_taken_port_is_one_line_with_the_flag() {
    let running = start(|_| ()).await;
    let error = Listener::bind("listen", running.address).await.unwrap_err();
    assert!(error.is_taken());
    let text = error.to_string();
    assert!(text.starts_with(&format!("listen {}: ", running.address)), "{text}");
    assert!(text.ends_with("; stop what listens there or choose another with --listen"), "{text}");
}

#[tokio::test]
async fn an_upload_in_http_2_that_stands_still_is_given_up() {
    let running = start(|limits| limits.body_timeout = Duration::from_millis(20)).await;
    let socket = TcpStream::connect(running.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    running.tasks.spawn(connection);
    let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    let body = StreamBody::new(never);
    let request = Request::post(format!("http://{}/", running.address)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "stalled");
}

#[tokio::test]
async fn in_http_2_who_sends_much_to_a_refusal_reads_the_refusal() {
    let running = start(|_| ()).await;
    let socket = TcpStream::connect(running.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    running.tasks.spawn(connection);
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let much = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(http_body::Frame::data(chunk.clone())));
    let request = Request::post(format!("http://{}/refuse", running.address)).body(StreamBody::new(much)).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
}
