//! A transfer that is under way when its right ends.

use std::net::SocketAddr;

use conformance::{
    Caller, Harness, Request,
    fixture::{Algorithm, Content},
    push,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::*;

/// With `HYTHE_LONG=1` 1 GiB, else 96 MiB.
fn size() -> usize {
    if env::var_os("HYTHE_LONG").is_some() { 1 << 30 } else { 96 << 20 }
}

/// What is read or written at once, a hundred times a second: 5 MB/s.
const PART: u16 = 50_000;
const STEP: Duration = Duration::from_millis(10);

/// A connection that holds little on its way, so that what arrives is what was sent a moment ago.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(PART.into()).unwrap();
    socket.set_send_buffer_size(PART.into()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn send_head(stream: &mut TcpStream, caller: &Caller, line: &str, fields: &str) {
    let authorization = caller.authorization().unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_download_ends_with_the_right_to_it() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let blob = Content::new(Algorithm::Sha256, "application/octet-stream", vec![7; size()]);
    let pusher = acme.caller(&acme.push().await);
    push::blob(&pusher, "acme/web", &blob).await;
    let (dying, living) = (acme.pull().await, acme.pull().await);
    let path = format!("GET /v2/acme/web/blobs/{}", blob.digest);
    let mut streams = Vec::new();
    for credential in [&dying, &living] {
        let token = acme.caller(credential).with_token(&["repository:acme/web:pull"]).await;
        let mut stream = connect(harness.client().address()).await;
        send_head(&mut stream, &token, &path, "").await;
        streams.push(stream);
    }
    let mut living = streams.pop().unwrap();
    let mut dying_stream = streams.pop().unwrap();
    let revoke = async {
        harness.hythe(&["credential", "revoke", "acme", &dying.id]).await;
        Instant::now()
    };
    let (mut ticks, mut part, mut received) = (tokio::time::interval(STEP), vec![0; PART.into()], 0);
    tokio::pin!(revoke);
    let mut ended = None;
    loop {
        tokio::select! {
            at = &mut revoke, if ended.is_none() && received > 1 << 20 => ended = Some(at),
            _ = ticks.tick() => {
                let read = dying_stream.read(&mut part).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                received += read;
            }
        }
    }
    let lasted = ended.expect("it went on until its right ended").elapsed();
    println!(
        "a slow download was cut {lasted:?} after the answer, {} MiB of {} received",
        received >> 20,
        size() >> 20
    );
    assert!(received < size(), "{received}");
    assert!(lasted < BOUND + Duration::from_secs(1), "{lasted:?}");

    // Another's goes on to its end.
    let mut whole = 0;
    while whole < size() {
        let read = living.read(&mut part).await.unwrap();
        assert!(read > 0, "cut after {whole}");
        whole += read;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_push_ends_with_the_right_to_it_and_leaves_nothing() {
    let harness = Harness::start().await;
    let acme = harness.account("acme").await;
    let credential = acme.push().await;
    let caller = acme.caller(&credential);
    let session = push::open(&caller, "acme/web").await;
    let blob = Content::new(Algorithm::Sha256, "application/octet-stream", vec![9; size()]);
    let mut stream = connect(harness.client().address()).await;
    let line = format!("PUT {}", push::with_digest(&session, &blob.digest));
    send_head(&mut stream, &caller, &line, &format!("Content-Length: {}\r\n", size())).await;
    let revoke = async {
        harness.hythe(&["credential", "revoke", "acme", &credential.id]).await;
        Instant::now()
    };
    tokio::pin!(revoke);
    let (mut ticks, mut sent, mut answer, mut ended) = (tokio::time::interval(STEP), 0, Vec::new(), None);
    let mut part = vec![0; PART.into()];
    while sent < size() {
        tokio::select! {
            at = &mut revoke, if ended.is_none() && sent > 1 << 20 => ended = Some(at),
            read = stream.read(&mut part) => match read {
                Ok(read @ 1..) => answer.extend_from_slice(&part[..read]),
                _ => break,
            },
            _ = ticks.tick() => {
                let next = &blob.bytes[sent..(sent + usize::from(PART)).min(size())];
                if stream.write_all(next).await.is_err() {
                    break;
                }
                sent += next.len();
            }
        }
        if !answer.is_empty() {
            break;
        }
    }
    let lasted = ended.expect("it went on until its right ended").elapsed();
    println!("a slow push was cut {lasted:?} after the answer, {} MiB of {} sent", sent >> 20, size() >> 20);
    assert!(sent < size() && lasted < BOUND + Duration::from_secs(1), "{sent} {lasted:?}");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 401"), "{answer}");
    let pull = acme.caller(&acme.pull().await);
    pull.send(Request::get(format!("/v2/acme/web/blobs/{}", blob.digest))).await.expect(404);
}
