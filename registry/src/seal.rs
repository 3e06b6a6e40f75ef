//! The seal key as the operator gives it: as a text, or as a program that prints it, such as the client of a key management service.

use std::{process::Stdio, time::Duration};

use auth::{Error, SealKey};
use config::Config;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};
use zeroize::Zeroizing;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes that a key may have. What is printed beyond is no key.
const KEY: usize = 4096;
/// Bytes of what it complains that are told.
const COMPLAINT: usize = 1024;

/// The key, if there is one; the program is run here and nowhere else.
pub(crate) async fn key(config: &Config) -> Result<Option<SealKey>, Error> {
    key_within(PATIENCE, config).await
}

async fn key_within(patience: Duration, config: &Config) -> Result<Option<SealKey>, Error> {
    match (&config.seal_key, config.seal_key_command.as_deref()) {
        (Some(key), _) => SealKey::new(key.reveal()).map(Some),
        (None, Some([program, args @ ..])) => {
            let printed = tokio::time::timeout(patience, printed(program, args)).await;
            let late = || Err(format!("it was not done within {} s", patience.as_secs()));
            let text = printed
                .unwrap_or_else(|_| late())
                .map_err(|why| Error::CannotOpen(format!("seal_key_command ({program}) gave no key: {why}")))?;
            SealKey::new(&text).map(Some)
        }
        (None, Some([]) | None) => Ok(None),
    }
}

/// What a program prints, if it says that all went well. What it printed is never told, whatever went wrong.
async fn printed(program: &str, args: &[String]) -> Result<Zeroizing<String>, String> {
    let mut command = Command::new(program);
    // Whoever waits no longer must not leave it behind.
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (ended, key, complaint) = tokio::join!(child.wait(), first(stdout, KEY + 1), first(stderr, COMPLAINT));
    let ended = ended.map_err(|error| error.to_string())?;
    if !ended.success() {
        return Err(match told(&complaint) {
            text if text.is_empty() => ended.to_string(),
            text => format!("{ended}: {text}"),
        });
    }
    if key.len() > KEY {
        return Err(format!("it printed more than {KEY} bytes"));
    }
    let text = std::str::from_utf8(&key).map_err(|_| "it printed something that is no text".to_owned())?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The first bytes of a stream; the rest is read and dropped, so that its writer comes to its end.
async fn first(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Zeroizing<Vec<u8>> {
    // As large as it will be: growing would leave copies behind.
    let mut kept = Zeroizing::new(vec![0; most]);
    let mut length = 0;
    let Some(mut stream) = stream else { return Zeroizing::default() };
    let mut dropped = Zeroizing::new([0; 512]);
    loop {
        let room = kept.get_mut(length..).filter(|room| !room.is_empty());
        let full = room.is_none();
        let read = stream.read(room.unwrap_or(&mut *dropped)).await;
        match read {
            Ok(0) | Err(_) => break,
            Ok(_) if full => {}
            Ok(count) => length += count,
        }
    }
    kept.truncate(length);
    kept
}

/// What it complained, on one line.
fn told(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    /// What comes of a command that is this script of a shell.
    async fn of(script: &str) -> Result<Option<SealKey>, String> {
        within(PATIENCE, script).await
    }

    async fn within(patience: Duration, script: &str) -> Result<Option<SealKey>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        write(&path, script);
        let sources = config::Sources::isolated().set("seal_key_command", format!("sh {} a b", path.display()));
        key_within(patience, &config::load(&sources).unwrap()).await.map_err(|error| error.to_string())
    }

    #[expect(clippy::disallowed_methods, reason = "the program under test is a file")]
    fn write(path: &std::path::Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn the_key_is_what_the_program_prints() {
        for script in
            [format!("echo {GOOD}"), format!("cat; printf '%s\\r\\n' {GOOD}"), format!("echo x >&2; printf {GOOD}")]
        {
            assert!(of(&script).await.unwrap().is_some(), "{script}");
        }
        let words = format!("test \"$#:$1:$2\" = 2:a:b && echo {GOOD}");
        assert!(of(&words).await.unwrap().is_some());
        assert!(key(&config::load(&config::Sources::isolated()).unwrap()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_program_that_fails_is_quoted_from_its_stderr_and_never_from_its_stdout() {
        let script = format!("echo {GOOD}; printf 'no access\\nto \\033[1mkey 7\\n' >&2; exit 3");
        let told = of(&script).await.unwrap_err();
        assert_eq!(told, "seal_key_command (sh) gave no key: exit status: 3: no access to [1mkey 7");
        assert_eq!(of("exit 1").await.unwrap_err(), "seal_key_command (sh) gave no key: exit status: 1");
        let told = of(&format!("echo {GOOD}; kill -9 $$")).await.unwrap_err();
        assert!(told.contains("signal: 9") && !told.contains(GOOD), "{told}");
        let flood = of("yes no access | head -c 100000 >&2; exit 1").await.unwrap_err();
        assert!(flood.len() < 2 * COMPLAINT && flood.contains("no access no access"), "{flood}");
    }

    #[tokio::test]
    async fn what_is_no_key_is_refused_without_being_shown() {
        for (script, why) in [
            ("true", "too short"),
            ("echo hunter2", "too short"),
            ("head -c 5000 /dev/zero | tr '\\0' x", "more than 4096 bytes"),
            ("printf '\\377%s' hunter2hunter2hunter2hunter2hunter2", "no text"),
        ] {
            let told = of(script).await.unwrap_err();
            assert!(told.contains(why) && !told.contains("hunter2") && !told.contains("xxx"), "{script}: {told}");
        }
        let sources = config::Sources::isolated().set("seal_key_command", "/nowhere/kms get");
        let told = key(&config::load(&sources).unwrap()).await.unwrap_err().to_string();
        assert!(told.starts_with("seal_key_command (/nowhere/kms) gave no key: No such file"), "{told}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_not_waited_for() {
        let told = within(Duration::ZERO, &format!("echo {GOOD}; exec sleep 1000")).await.unwrap_err();
        assert_eq!(told, "seal_key_command (sh) gave no key: it was not done within 0 s");
    }
}
