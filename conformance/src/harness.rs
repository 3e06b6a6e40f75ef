//! A real server process of a test's own.

#![expect(clippy::panic, reason = "a server that cannot be started ends the test with its log")]

use std::{
    collections::{BTreeSet, HashSet},
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::{
    actor::{Caller, Credential},
    bucket::{Bucket, Server},
    client::{Client, Request},
    clock::VARIABLE,
    tools::{Ended, Run},
    turns::Turns,
};

/// How often readiness is asked for, and how often at most: 60 s in all, for machines that run many tests at once.
const PROBE: Duration = Duration::from_millis(10);
const PROBES: usize = 6000;

/// Where a server keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A folder: SQLite and files.
    Local,
    /// A bucket of a MinIO of the harness's own.
    Minio,
    /// A bucket of a versitygw of the harness's own.
    Versitygw,
}

impl Store {
    /// The two that most promises are tried on.
    pub const ALL: [Self; 2] = [Self::Local, Self::Minio];

    /// What a test runs on that is about no store in particular: a folder, or what `HYTHE_TEST_STORE` says.
    fn usual() -> Self {
        match env::var("HYTHE_TEST_STORE").as_deref() {
            Ok("minio") => Self::Minio,
            Ok("versitygw") => Self::Versitygw,
            _ => Self::Local,
        }
    }

    /// Whether such a test runs on two servers.
    fn replicas() -> bool {
        env::var_os("HYTHE_TEST_STORE").is_some_and(|store| store == "replicas")
    }
}

/// A server under test, its store and its clock.
#[derive(Debug)]
pub struct Harness {
    // Dropped in this order: the servers before their store, the folder last.
    turns: Option<Turns>,
    server: Option<Child>,
    /// A further server, that shares the requests with this one.
    second: Option<Box<Self>>,
    bucket: Option<Bucket>,
    /// What a server needs in its environment for the bucket of another harness.
    shared: Option<Vec<(String, String)>>,
    client: Client,
    /// The server's own address, when clients come by another.
    own: Option<SocketAddr>,
    serve_args: Vec<String>,
    /// Where it listens, when that is not the address that the harness's own client uses.
    listen: Option<IpAddr>,
    /// What the program is started through: `nsenter` and its arguments, for one.
    through: Vec<String>,
    /// Further variables of the server.
    variables: Vec<(String, String)>,
    accounts: Mutex<BTreeSet<String>>,
    dir: TempDir,
}

impl Harness {
    /// A server on a store of its own: a folder, with `HYTHE_TEST_STORE=minio` or `versitygw` a bucket, or with `replicas`
    /// two servers on one bucket.
    pub async fn start() -> Self {
        if Store::replicas() { Self::in_turns(Store::Minio).await } else { Self::on(Store::usual()).await }
    }

    /// Two servers on one bucket, behind one address: each request goes to the other one.
    pub async fn in_turns(store: Store) -> Self {
        let front = free_address();
        let args = ["--public-url".to_owned(), format!("http://{front}")];
        let mut harness = Self::with(store, &args.each_ref().map(String::as_str)).await;
        let mut second = harness.further(None).await;
        second.serve_args = args.into();
        second.boot().await;
        let (own, other) = (harness.client.address(), second.client.address());
        harness.turns = Some(Turns::start(front, &[own, other], &harness.dir.path().join("turns")).await);
        harness.own = Some(own);
        harness.second = Some(Box::new(second));
        harness.client = Client::new(front);
        harness
    }

    /// Clients of each server behind the address, for those that want to choose.
    pub fn servers(&self) -> Vec<Client> {
        let second = self.second.iter().map(|second| second.client.address());
        self.own.into_iter().chain(second).map(Client::new).collect()
    }

    /// A server on a store of its own.
    pub async fn on(store: Store) -> Self {
        Self::with(store, &[]).await
    }

    /// A server at an address that was chosen before, because something else has to know it first.
    pub async fn at(address: SocketAddr) -> Self {
        let mut harness = Self::stopped(Store::usual()).await;
        harness.client = Client::new(address);
        harness.boot().await;
        harness
    }

    /// A server with further arguments to `serve`.
    pub async fn with(store: Store, serve_args: &[&str]) -> Self {
        let mut harness = Self::stopped(store).await;
        harness.serve_args = serve_args.iter().map(|&arg| arg.to_owned()).collect();
        harness.boot().await;
        harness
    }

    /// All but the server: for tests of how it starts.
    ///
    /// # Panics
    /// When there is no room for a temporary folder.
    pub async fn stopped(store: Store) -> Self {
        let dir = TempDir::with_prefix("hythe-").unwrap_or_else(|error| panic!("temporary folder: {error}"));
        let bucket = match store {
            Store::Local => None,
            Store::Minio => Some(Bucket::start(Server::Minio, dir.path()).await),
            Store::Versitygw => Some(Bucket::start(Server::Versitygw, dir.path()).await),
        };
        Self {
            turns: None,
            server: None,
            second: None,
            bucket,
            shared: None,
            client: Client::new(free_address()),
            own: None,
            serve_args: Vec::new(),
            listen: None,
            through: Vec::new(),
            variables: Vec::new(),
            accounts: Mutex::default(),
            dir,
        }
    }

    /// A further server on the bucket of this harness, which it finds at `endpoint`, or where the bucket is.
    ///
    /// # Panics
    /// When this harness has no bucket.
    pub async fn replica(&self, endpoint: Option<SocketAddr>) -> Self {
        let mut harness = self.further(endpoint).await;
        harness.boot().await;
        harness
    }

    async fn further(&self, endpoint: Option<SocketAddr>) -> Self {
        let mut environment = self.environment();
        assert!(!environment.is_empty(), "only a bucket can have several servers");
        if let Some(endpoint) = endpoint {
            environment.push(("AWS_ENDPOINT".to_owned(), format!("http://{endpoint}")));
        }
        let mut harness = Self::stopped(Store::Local).await;
        harness.shared = Some(environment);
        harness
    }

    /// Where the bucket of this harness is, if it has one of its own.
    pub fn bucket(&self) -> Option<SocketAddr> {
        self.bucket.as_ref().map(Bucket::address)
    }

    /// Starts the server and waits until it is ready; after [`Harness::kill`] on the same address.
    ///
    /// # Panics
    /// When it does not become ready, with its log.
    pub async fn boot(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = self.log_path();
        let at = self.serve_args.iter().position(|arg| arg == "--operations");
        let operations = at.and_then(|at| self.serve_args.get(at + 1)?.parse().ok());
        let off: &[&str] = if at.is_some() { &[] } else { &["--operations", "off"] };
        let mut child = self
            .command()
            .envs(self.variables.clone())
            .arg("serve")
            .args(["--listen", &self.listen_address().to_string()])
            .args(off)
            .args(self.store_flags())
            .args(&self.serve_args)
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        // The public listener may be under TLS, which the client does not speak.
        let asked = Client::new(operations.unwrap_or_else(|| self.own_address()));
        ready(&asked, "/readyz", &mut child, &log).await;
        self.server = Some(child);
    }

    /// Starts the server and runs every command through another program, which must execute what follows in its own place.
    pub fn through(&mut self, program: Vec<String>) {
        self.through = program;
    }

    /// Gives the server a variable and further arguments when it starts next.
    pub fn set(&mut self, variables: &[(&str, &str)], serve_args: &[&str]) {
        self.variables.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        self.serve_args.extend(serve_args.iter().map(|&arg| arg.to_owned()));
    }

    /// Sends the running server a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.pid().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        let sent = pid.map(|pid| rustix::process::kill_process(pid, signal));
        assert!(matches!(sent, Some(Ok(()))), "{signal:?} to {pid:?}: {sent:?}");
    }

    /// Waits until the server has ended by itself, a minute at most, and gives its exit code.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut child = self.server.take()?;
        let mut looks = tokio::time::interval(PROBE);
        for _ in 0..PROBES {
            looks.tick().await;
            if let Ok(Some(status)) = child.try_wait() {
                return status.code();
            }
        }
        self.server = Some(child);
        panic!("the server does not end")
    }

    /// Stops the server as a service manager does (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.ended().await, Some(0), "{}", self.log());
    }

    /// Listens at every address of `on`, such as `0.0.0.0` or `[::]`, from the next start on; the harness's own client still
    /// comes by `127.0.0.1`.
    pub fn listen_at(&mut self, on: IpAddr) {
        self.listen = Some(on);
    }

    /// What `serve` is told from the next start on, in the place of what it was told before.
    pub fn serve_with(&mut self, args: &[&str]) {
        self.serve_args = args.iter().map(|&arg| arg.to_owned()).collect();
    }

    fn listen_address(&self) -> SocketAddr {
        let address = self.own_address();
        self.listen.map_or(address, |ip| SocketAddr::new(ip, address.port()))
    }

    fn own_address(&self) -> SocketAddr {
        self.own.unwrap_or_else(|| self.client.address())
    }

    /// Kills the server (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Kills the server and starts it again on the same store and address.
    pub async fn restart(&mut self) {
        self.kill();
        self.boot().await;
    }

    /// Kills the S3 server of this harness, while the server goes on.
    pub fn lose_bucket(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.kill();
        }
    }

    /// The server's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// A client of this server; clones share its connections.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `127.0.0.1:PORT`, as clients name the registry.
    pub fn host(&self) -> String {
        self.client.address().to_string()
    }

    /// Sends a request without credentials.
    pub async fn send(&self, request: Request) -> crate::Answer {
        self.client.send(request).await
    }

    /// A folder of this test's own, removed with the harness.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        make_dir(&dir);
        dir
    }

    /// The folder of the local store.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the server has printed so far.
    pub fn log(&self) -> String {
        read_text(&self.log_path())
    }

    /// Moves the server's clock, and that of later commands, by seconds against the machine's.
    pub fn set_clock(&self, offset_seconds: i64) {
        write_clock(&self.clock_path(), offset_seconds);
        if let Some(second) = &self.second {
            second.set_clock(offset_seconds);
        }
    }

    /// Runs the command line on this store: `account create acme`, with the store's flags added.
    pub async fn hythe(&self, args: &[&str]) -> Ended {
        self.hythe_at(0, args).await
    }

    /// The same, with the command's clock moved by seconds: to mint what expired long ago.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn hythe_at(&self, offset_seconds: i64, args: &[&str]) -> Ended {
        self.run_at(offset_seconds, args).ok().await
    }

    /// Waits until the running server has heard of every right that commands on its store have ended so far: it reads the log of
    /// such ends once a second, in its order, so it is asked about a credential whose end is the newest.
    ///
    /// # Panics
    /// When it still has not after a minute.
    pub async fn heard(&self) {
        if self.server.is_none() {
            return;
        }
        if self.remember("witness") {
            self.hythe(&["account", "create", "witness"]).await;
        }
        let made = self.hythe(&["credential", "create", "witness", "--kind", "pull", "--output", "json"]).await;
        let made = Credential::parse(&made.stdout);
        let caller = Caller::basic(self.client(), &made.username, &made.password);
        let ask = async || caller.send(Request::get("/v2/")).await.status;
        assert_eq!(ask().await, 200, "{}", self.log());
        self.hythe(&["credential", "revoke", "witness", &made.id]).await;
        // Twice, because two servers may answer in turns.
        until("the server has heard of a revocation", async || ask().await == 401 && ask().await == 401).await;
    }

    /// A command that has not run yet, for those that are meant to fail.
    pub fn run_at(&self, offset_seconds: i64, args: &[&str]) -> Run {
        let clock = if offset_seconds == 0 {
            self.clock_path()
        } else {
            let clock = self.dir.path().join(format!("clock{offset_seconds}"));
            write_clock(&clock, offset_seconds);
            clock
        };
        let mut words = self.words();
        let mut run = Run::of(&words.remove(0)).args(words).args(args).args(self.store_flags()).env(VARIABLE, clock);
        for (name, value) in self.environment() {
            run = run.env(&name, value);
        }
        run
    }

    /// A command on this store that names another harness's too, as `--to` or `--from`.
    pub fn run_with(&self, args: &[&str], flag: &str, other: &Self) -> Run {
        let [_, place] = other.store_flags();
        let prefix = flag.trim_start_matches('-').to_uppercase();
        let run = self.run_at(0, args).args([flag, &place]);
        other.environment().into_iter().fold(run, |run, (name, value)| run.env(&format!("{prefix}_{name}"), value))
    }

    /// A command that is told of no store.
    pub fn bare(&self, args: &[&str]) -> Run {
        Run::of(&binary()).args(args).current_dir(self.dir.path()).env(VARIABLE, self.clock_path())
    }

    /// Remembers that an account exists; false if it did already.
    pub(crate) fn remember(&self, account: &str) -> bool {
        self.accounts.lock().insert(account.to_owned())
    }

    /// The flags that name this harness's store.
    pub fn store_flags(&self) -> [String; 2] {
        if self.environment().is_empty() {
            ["--data".to_owned(), self.data().display().to_string()]
        } else {
            ["--store".to_owned(), Bucket::url()]
        }
    }

    /// What a program needs in its environment to speak to this harness's bucket; nothing for a folder.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.shared.clone().or_else(|| self.bucket.as_ref().map(Bucket::environment)).unwrap_or_default()
    }

    /// The program, after what it is started through.
    fn words(&self) -> Vec<PathBuf> {
        self.through.iter().map(PathBuf::from).chain([binary()]).collect()
    }

    fn command(&self) -> Command {
        let mut words = self.words();
        let mut command = Command::new(words.remove(0));
        command.args(words).current_dir(self.dir.path()).env(VARIABLE, self.clock_path()).envs(self.environment());
        command
    }

    /// The file that [`VARIABLE`] names to programs that share the server's clock.
    pub fn clock_path(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }
}

impl Drop for Harness {
    #[expect(clippy::print_stderr, reason = "the log of the server belongs to the report of a failed test")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().nth_back(4000).map_or(0, |(at, _)| at);
            eprintln!("--- end of the server's log\n{}", log.get(from..).unwrap_or_default());
        }
    }
}

/// The server's binary with the test clock: beside the folder of the test that runs.
///
/// # Panics
/// When it was not built.
pub fn binary() -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    let folder =
        test.ancestors().find(|path| path.file_name().is_some_and(|name| name == "release" || name == "debug"));
    let binary = folder.unwrap_or(Path::new("target/release")).join("hythe-under-test");
    assert!(binary.exists(), "{} is missing: run conformance/run", binary.display());
    binary
}

/// An address of loopback that nobody listens on, and that no other test of this process was given.
///
/// # Panics
/// When loopback has no free port.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|error| panic!("loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("loopback: {error}"));
        if given.insert(address.port()) {
            return address;
        }
    }
    panic!("loopback has no port left")
}

/// Asks until it is so, a minute at most: for what goes on beside the requests and has no other end to wait for.
///
/// # Panics
/// When it does not come to be.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(PROBE);
    for _ in 0..PROBES {
        looks.tick().await;
        if so().await {
            return;
        }
    }
    panic!("not within a minute: {what}")
}

/// Asks until a process that was started answers, a minute at most.
///
/// # Panics
/// When it ends before, or does not answer, with its log.
pub async fn running<T>(
    it: &mut T,
    child: impl Fn(&mut T) -> &mut Child,
    log: &Path,
    answers: impl AsyncFn(&T) -> bool,
) {
    let mut looks = tokio::time::interval(PROBE);
    for _ in 0..PROBES {
        looks.tick().await;
        if answers(it).await {
            return;
        }
        if let Ok(Some(status)) = child(it).try_wait() {
            panic!("it ended with {status}:\n{}", read_text(log));
        }
    }
    panic!("it does not become ready:\n{}", read_text(log))
}

/// Waits until `path` answers 200, as long as `child` lives.
///
/// # Panics
/// When the process ends or does not become ready, with its log.
pub async fn ready(client: &Client, path: &str, child: &mut Child, log: &Path) {
    running(child, |child| child, log, async |_| answers(client, path).await).await;
}

/// Whether `path` answers 200 by now.
pub async fn answers(client: &Client, path: &str) -> bool {
    client.try_send(Request::get(path)).await.is_ok_and(|answer| answer.status == 200)
}

/// Makes a folder and those above it.
///
/// # Panics
/// When it cannot.
pub fn make_dir(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
}

/// Opens a log for appending.
///
/// # Panics
/// When it cannot.
pub fn log_file(path: &Path) -> Stdio {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Reads a file as text; what is absent or not text reads as empty.
#[expect(clippy::disallowed_methods, reason = "the harness reads what the processes it started have written")]
pub fn read_text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Writes a file, making the folder it lies in.
///
/// # Panics
/// When it cannot.
#[expect(clippy::disallowed_methods, reason = "the harness writes what the clients it starts will read")]
pub fn write_file(path: &Path, bytes: &[u8]) {
    if let Some(folder) = path.parent() {
        make_dir(folder);
    }
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Replaced by a rename, so that a reader sees the old offset or the new one.
fn write_clock(path: &Path, offset_seconds: i64) {
    let fresh = path.with_extension("new");
    write_file(&fresh, offset_seconds.to_string().as_bytes());
    fs::rename(&fresh, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
