//! How a server starts, and how it says that it cannot: one clear line with the way out, the right exit code, and nothing
//! written where it does not belong. A disk that fills while it runs costs nothing that was acknowledged.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use conformance::{
    Actor, Answer, Caller, Harness, Request, Store,
    bucket::{self, Bucket, Server},
    fixture::{self, Algorithm, Content, Format, media},
    harness::{self, make_dir, write_file},
    lax::LaxBucket,
    push,
    tools::{self, Ended, Run},
};
use serde_json::json;
use storage::{
    backend::local::{Folder, Options},
    clock::SystemClock,
    format::{Format as Layout, LAYOUT},
    key, record,
};
use tempfile::TempDir;

const FAILED: i32 = 1;
const USAGE: i32 = 64;

/// `serve` on a free port, from an empty folder.
struct Start {
    folder: TempDir,
    cwd: TempDir,
}

impl Start {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), cwd: TempDir::new().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A run of `serve` through another program, if one is given.
    fn run(&self, through: &[String], args: &[&str]) -> Run {
        let mut words: Vec<_> = through.iter().map(PathBuf::from).chain([harness::binary()]).collect();
        let program = words.remove(0);
        Run::of(&if through.is_empty() { program } else { tools::find(&through[0]) })
            .args(words)
            .args(["serve", "--operations", "off"])
            .args(args)
            .current_dir(self.cwd.path())
    }

    async fn serve(&self, args: &[&str]) -> Ended {
        let data = self.data().display().to_string();
        let mut all = vec!["--data", &data];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        self.run(&[], &all).end().await
    }

    /// What lies in the folder that the server was started in.
    fn elsewhere(&self) -> usize {
        fs::read_dir(self.cwd.path()).unwrap().count()
    }
}

/// Ended with this code and one line on stderr that says all of `texts`.
#[track_caller]
fn refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
    let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("hythe: ") && !line.contains('\n'), "one line: {:?}", ended.stderr);
    for text in texts {
        assert!(line.contains(text), "{line:?} does not say {text:?}");
    }
}

/// Mounts that only this test and what it starts can see; gone with the test.
struct Mounts(Child);

impl Mounts {
    /// Runs a script with one argument where it may mount.
    fn new(script: &str, argument: &Path) -> Self {
        let mut command = Command::new(tools::find("unshare"));
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!("{script} && echo ready && exec cat");
        let mut child = command
            .args(["sh", "-c", &script, "sh"])
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the machine lets nobody mount");
        Self(child)
    }

    fn tmpfs(size: &str, folder: &Path) -> Self {
        make_dir(folder);
        Self::new(&format!("mount -t tmpfs -o size={size} hythe \"$1\""), folder)
    }

    /// What starts a program among these mounts.
    fn enter(&self) -> Vec<String> {
        let program = tools::find("nsenter").display().to_string();
        let mut words = vec![program, "--mount".into(), "--target".into(), self.0.id().to_string()];
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        words
    }

    /// The same path as these mounts show it.
    fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.0.id(), path.display()))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Writes `size` bytes, or as many as fit.
fn fill(path: &Path, size: usize) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let block = vec![7; 64 << 10];
    for at in (0..size).step_by(block.len()) {
        if file.write_all(&block[..block.len().min(size - at)]).is_err() {
            return;
        }
    }
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_missing_data_folder_is_made_for_its_owner_alone() {
    let harness = Harness::start().await;
    let mode = fs::metadata(harness.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(harness.data().join("records.db").is_file());
}

#[tokio::test]
async fn a_data_folder_below_a_file_is_refused() {
    let start = Start::new();
    write_file(&start.folder.path().join("file"), b"in the way");
    let below = start.folder.path().join("file/data").display().to_string();
    let ended = start.run(&[], &["--listen", "127.0.0.1:0", "--data", &below]).end().await;
    refused(&ended, FAILED, &[&below, "something that is no folder is in the way; name another"]);
    assert_eq!(start.elsewhere(), 0);
}

#[tokio::test]
async fn a_read_only_data_folder_is_refused() {
    let start = Start::new();
    for made_before in [false, true] {
        if made_before {
            make_dir(&start.data());
        }
        let mounts = Mounts::new("mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"", start.folder.path());
        let data = start.data().display().to_string();
        let ended = start.run(&mounts.enter(), &["--listen", "127.0.0.1:0", "--data", &data]).end().await;
        refused(&ended, FAILED, &[&data, "mount it writable, or name another folder"]);
    }
    assert_eq!(start.elsewhere(), 0);
}

#[tokio::test]
async fn a_full_disk_is_refused_at_the_start() {
    let start = Start::new();
    let mounts = Mounts::tmpfs("1m", &start.data());
    fill(&mounts.path(&start.data()).join("ballast"), 2 << 20);
    let data = start.data().display().to_string();
    let ended = start.run(&mounts.enter(), &["--listen", "127.0.0.1:0", "--data", &data]).end().await;
    refused(&ended, FAILED, &[&data, "free space on its disk"]);
}

/// A store on a small disk, and what it acknowledged.
struct SmallDisk {
    harness: Harness,
    mounts: Mounts,
    caller: Caller,
    kept: Vec<Content>,
    pushed: usize,
}

impl SmallDisk {
    fn ballast(&self) -> PathBuf {
        self.mounts.path(&self.harness.data()).join("ballast")
    }

    /// Pushes a blob in one of three ways.
    async fn push(&mut self, size: usize) -> Answer {
        self.pushed += 1;
        let blob = Content::random(Algorithm::Sha256, &format!("small disk {}", self.pushed), size);
        let uploads = "/v2/acme/web/blobs/uploads/";
        let answer = if self.pushed.is_multiple_of(3) {
            self.caller.send(Request::post(format!("{uploads}?digest={}", blob.digest)).body(blob.bytes.clone())).await
        } else {
            let opened = self.caller.send(Request::post(uploads)).await;
            if opened.status != 202 {
                return opened;
            }
            let location = push::location(&opened);
            if self.pushed % 3 == 1 {
                let put = Request::put(push::with_digest(&location, &blob.digest)).body(blob.bytes.clone());
                self.caller.send(put).await
            } else {
                let sent = push::chunk(&self.caller, &location, 0, blob.bytes.clone()).await;
                if sent.status != 202 {
                    return sent;
                }
                push::commit(&self.caller, &push::location(&sent), &blob.digest).await
            }
        };
        if answer.status == 201 {
            self.kept.push(blob);
        }
        answer
    }

    async fn has_everything(&self) {
        for blob in &self.kept {
            let answer =
                self.caller.send(Request::get(format!("/v2/acme/web/blobs/{}", blob.digest))).await.expect(200);
            assert!(answer.body == blob.bytes, "{}", blob.digest);
        }
    }
}

#[track_caller]
fn full(answer: Answer) {
    let answer = answer.refused(507, "UNAVAILABLE");
    assert_eq!(answer.message(), "the registry's disk is full; free space and push again");
}

#[tokio::test]
async fn a_disk_that_fills_in_the_middle_of_pushes_loses_nothing_and_recovers_by_itself() {
    const MIB: usize = 1 << 20;
    let mut harness = Harness::stopped(Store::Local).await;
    let mounts = Mounts::tmpfs("64m", &harness.data());
    harness.through(mounts.enter());
    harness.boot().await;
    let acme = harness.account("acme").await;
    let (caller, other) = (acme.actor(Actor::PushDelete).await, acme.push().await);
    let doomed = acme.caller(&other);
    let image = fixture::image("small disk", Format::Oci);
    push::bundle(&caller, "acme/web", "v1", &image).await;
    drop(acme);
    let mut disk = SmallDisk { harness, mounts, caller, kept: image.blobs.clone(), pushed: 0 };
    fill(&disk.ballast(), 20 * MIB);

    // In the middle of a body: there was room when the session was opened and when the body began.
    let location = push::open(&disk.caller, "acme/web").await;
    disk.push(4 * MIB).await.expect(201);
    let huge = Bytes::from(vec![1; 32 * MIB]);
    full(push::chunk(&disk.caller, &location, 0, huge).await);
    disk.caller.send(Request::delete(location)).await.expect(204);
    full(disk.push(4 * MIB).await);
    disk.has_everything().await;
    disk.harness.send(Request::get("/readyz")).await.expect(200);

    // The reserve is for what makes room and for what must not wait.
    let gone = disk.kept.pop().unwrap();
    disk.caller.send(Request::delete(format!("/v2/acme/web/blobs/{}", gone.digest))).await.expect(202);
    disk.caller.send(Request::delete("/v2/acme/web/manifests/v1")).await.expect(202);
    disk.harness.account("acme").await.revoke(&other).await;
    assert_eq!(doomed.send(Request::get("/v2/")).await.status, 401);

    // Somebody else takes the reserve too.
    fill(&disk.ballast(), 64 * MIB);
    for _ in 0..3 {
        full(disk.push(MIB).await);
    }
    let mut refused = 0;
    for number in 0..50 {
        let text = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
            "annotations": {"number": number.to_string(), "padding": "x".repeat(200 << 10)}});
        let index = Content::new(Algorithm::Sha256, media::OCI_INDEX, text.to_string());
        let answer = disk.caller.send(push::manifest_request("acme/web", &format!("t{number}"), &index)).await;
        if answer.status != 201 {
            full(answer);
            refused += 1;
        }
    }
    assert!(refused > 0, "ten megabytes of manifests fitted on a full disk");
    disk.has_everything().await;

    let pid = disk.harness.pid();
    fs::remove_file(disk.ballast()).unwrap();
    for _ in 0..3 {
        disk.push(MIB).await.expect(201);
    }
    push::bundle(&disk.caller, "acme/web", "v2", &image).await;
    disk.has_everything().await;
    assert_eq!(disk.harness.pid(), pid);
    disk.harness.restart().await;
    disk.has_everything().await;
    disk.harness.hythe(&["verify"]).await.says(": 0 problems");
}

#[tokio::test]
async fn a_store_of_a_newer_layout_is_refused_and_left_alone() {
    let mut harness = Harness::start().await;
    harness.kill();
    let folder = Folder::open(&harness.data(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let mut layout = record::read::<Layout>(&*folder.records, &key::format()).await.unwrap().unwrap();
    layout.value.layout = LAYOUT + 1;
    record::update(&*folder.records, &key::format(), &mut layout).await.unwrap();
    drop(folder);
    let texts = [&format!("this store has layout {}", LAYOUT + 1), "run a newer release"];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--operations", "off"];
    for command in [&serve[..], &["account", "create", "acme"]] {
        refused(&harness.run_at(0, command).end().await, FAILED, &texts);
    }
    let folder = Folder::open(&harness.data(), Options::default(), Arc::new(SystemClock::new())).unwrap();
    let after = record::read::<Layout>(&*folder.records, &key::format()).await.unwrap().unwrap();
    assert_eq!(after.version(), layout.version());
}

#[tokio::test]
async fn a_folder_that_is_served_already_names_its_process() {
    let harness = Harness::start().await;
    let second = harness.run_at(0, &["serve", "--listen", "127.0.0.1:0", "--operations", "off"]).end().await;
    let text = format!("is already served by process {}; stop that one", harness.pid().unwrap());
    refused(&second, FAILED, &[&text]);
    harness.send(Request::get("/readyz")).await.expect(200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_before_anything_is_written() {
    let start = Start::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = start.serve(&["--listen", &address]).await;
    refused(&ended, FAILED, &[&address, "stop what listens there or choose another with --listen"]);
    assert!(!start.data().exists());
    assert_eq!(start.elsewhere(), 0);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_refused_with_64_before_anything_is_written() {
    let start = Start::new();
    write_file(&start.folder.path().join("hythe.toml"), b"lisen = \"127.0.0.1:0\"\n");
    let file = start.folder.path().join("hythe.toml").display().to_string();
    let cases: [(&[&str], &str); 5] = [
        (&["--listen", "nonsense"], "listen"),
        (&["--config", &file], "lisen"),
        (&["--config", "/nowhere/hythe.toml"], "/nowhere/hythe.toml"),
        (&["--store", "s3://bucket"], "--store"),
        (&["--no-such-flag"], "--no-such-flag"),
    ];
    for (args, text) in cases {
        refused(&start.serve(args).await, USAGE, &[text]);
    }
    assert!(!start.data().exists());
    assert_eq!(start.elsewhere(), 0);
}

#[tokio::test]
async fn a_bucket_that_ignores_conditions_is_refused_and_keeps_nothing() {
    let start = Start::new();
    let minio = Bucket::start(Server::Minio, start.folder.path()).await;
    let lax = LaxBucket::before(minio.address(), bucket::PASSWORD).await;
    let mut run = start.run(&[], &["--listen", "127.0.0.1:0", "--store", &Bucket::url()]);
    for (name, value) in minio.environment() {
        let value = if name == "AWS_ENDPOINT" { format!("http://{}", lax.address()) } else { value };
        run = run.env(&name, value);
    }
    let texts = [Bucket::url(), format!("use split mode (--store {} --records sqlite:PATH)", Bucket::url())];
    refused(&run.end().await, FAILED, &texts.each_ref().map(String::as_str));
    let bucket = Bucket::data(start.folder.path()).join(bucket::BUCKET);
    assert_eq!(files(&bucket), Vec::<PathBuf>::new(), "the probe's keys stay behind");
    assert_eq!(start.elsewhere(), 0);
}
