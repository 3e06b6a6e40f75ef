use config::Sources;
use storage::clock::SystemClock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

fn configured(folder: &tempfile::TempDir) -> Config {
    let data = folder.path().join("data").display().to_string();
    let sources = Sources::isolated().set("data", data).set("listen", "127.0.0.1:0").set("operations", "127.0.0.1:0");
    config::load(&sources).unwrap()
}

async fn started(config: Config) -> Result<Running, StartError> {
    start(config, Arc::new(SystemClock::new()), Lives::default()).await
}

/// The answer to a GET, whole.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

fn refused(error: &StartError) -> String {
    let text = telemetry::chain(error);
    assert!(!text.contains('\n'), "{text}");
    text
}

#[tokio::test]
async fn both_listeners_say_that_the_server_is_ready_and_one_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let running = started(configured(&folder)).await.unwrap();
    let public = get(running.address, "/readyz").await;
    assert!(public.starts_with("HTTP/1.1 200 ") && public.ends_with("\r\nready\n"), "{public}");
    let operations = running.operations_address.unwrap();
    assert!(
        get(operations, "/readyz")
            .await
            .ends_with("store: ok\nauthlog: ok; an ended right is refused within 5 s\nrunning: ok\n")
    );
    assert!(get(operations, "/metrics").await.contains("hythe_requests_total{operation=\"ready\",status=\"200\"} 1"));
    assert!(!get(running.address, "/metrics").await.contains("hythe_requests_total"));
    assert_eq!(running.shutdown().await, Drained::Clean);
}

#[tokio::test]
async fn a_folder_is_served_once_and_again_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let first = started(configured(&folder)).await.unwrap();
    let text = refused(&started(configured(&folder)).await.unwrap_err());
    assert!(text.contains("already served by process"), "{text}");
    assert_eq!(first.shutdown().await, Drained::Clean);
    assert_eq!(started(configured(&folder)).await.unwrap().shutdown().await, Drained::Clean);
}

#[tokio::test]
async fn a_taken_operations_address_stops_the_start_only_if_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = configured(&folder);
    config.server.operations = config::Operations::At(address);
    let text = refused(&started(config.clone()).await.unwrap_err());
    assert!(text.starts_with(&format!("operations {address}: ")) && text.ends_with("with --operations"), "{text}");
    config.server.operations = config::Operations::Default(address);
    let running = started(config).await.unwrap();
    assert_eq!(running.operations_address, None);
    assert_eq!(running.shutdown().await, Drained::Clean);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_one_line_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = configured(&folder);
    config.store = config::Store::Folder("/proc/hythe".into());
    let text = refused(&started(config).await.unwrap_err());
    assert!(text.contains("/proc/hythe") && text.contains("another folder"), "{text}");
}

#[tokio::test]
async fn a_command_on_the_store_learns_where_its_server_is_until_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = configured(&folder);
    config.server.account_domain = Some("registry.example".parse().unwrap());
    let running = started(config.clone()).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let beside = open::store(&config.store, false, Arc::clone(&clock)).await.unwrap();
    let said = async || replica::last_names(&*beside.records, clock.now()).await.unwrap();
    let (url, domain) = said().await.unwrap();
    assert_eq!(url.to_string(), format!("http://{}", running.address));
    assert_eq!(domain, config.server.account_domain);
    assert_eq!(running.shutdown().await, Drained::Clean);
    assert_eq!(said().await, None);
}
