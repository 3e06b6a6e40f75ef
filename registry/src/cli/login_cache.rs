//! Logins kept on disk between the runs of a short-lived program, so that many runs at once mint one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use storage::{Clock, Time};

use super::{
    login::Login,
    output,
    private_file::{self, Readers},
};

/// A folder (0700) of logins (0600), each replaced whole.
#[derive(Debug)]
pub(super) struct LoginCache {
    folder: PathBuf,
}

impl LoginCache {
    /// The cache in this folder, made if it is absent.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        private_file::folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The login under this name, as long as its first half lasts; then the one that `mint` makes, or, where that fails, the old
    /// one to its end. Whoever asks for the same name meanwhile, in any process, waits and gets the same.
    pub(super) async fn get<E>(
        &self,
        name: &str,
        clock: &dyn Clock,
        told: impl Fn(String) -> E,
        mint: impl AsyncFnOnce() -> Result<Login, E>,
    ) -> Result<Login, E> {
        let _lock = self.lock(name).map_err(|error| told(format!("{}: {error}", self.folder.display())))?;
        let kept = self.kept(name, clock.now());
        if let Some(login) = &kept
            && clock.now() < login.half()
        {
            return Ok(login.clone());
        }
        match (mint().await, kept) {
            (Ok(login), _) => {
                output::write_private(&self.path(name), &login.to_json().to_string())
                    .map_err(|error| told(error.to_string()))?;
                Ok(login)
            }
            (Err(_), Some(login)) => Ok(login),
            (Err(error), None) => Err(error),
        }
    }

    /// The login under this name, if it lives.
    pub(super) fn kept(&self, name: &str, now: Time) -> Option<Login> {
        let text = private_file::read(&self.path(name), Readers::Owner).ok()?;
        let login = Login::from_json(&serde_json::from_str(text.reveal()).ok()?)?;
        (login.minted <= now && now < login.expires()).then_some(login)
    }

    /// Forgets the login under this name.
    pub(super) fn forget(&self, name: &str) -> io::Result<()> {
        let _lock = self.lock(name)?;
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Held until the file is dropped, or its process ends.
    fn lock(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                done => return done.map(|()| file).map_err(io::Error::from),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use chrono::TimeDelta;
    use config::Secret;
    use storage::clock::{ManualClock, SystemClock};

    use super::*;

    fn login(name: &str, now: Time) -> Login {
        let life = TimeDelta::seconds(100);
        Login { username: name.to_owned(), password: Secret::new("hypl_x"), minted: now, life }
    }

    #[tokio::test]
    async fn a_login_is_minted_again_after_half_its_life_and_kept_to_its_end_where_that_fails() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LoginCache::open(&dir.path().join("logins")).unwrap();
        let clock = ManualClock::at(SystemClock::new().now());
        let ask = async |minted: Result<&str, &str>| {
            let mint = async || minted.map(|name| login(name, clock.now())).map_err(str::to_owned);
            cache.get("host:5080", &clock, |error| error, mint).await.map(|login| login.username)
        };
        assert_eq!(ask(Ok("one")).await.unwrap(), "one");
        clock.advance(std::time::Duration::from_secs(49));
        assert_eq!(ask(Ok("two")).await.unwrap(), "one");
        clock.advance(std::time::Duration::from_secs(2));
        assert_eq!(ask(Err("away")).await.unwrap(), "one");
        assert_eq!(ask(Ok("two")).await.unwrap(), "two");
        clock.advance(std::time::Duration::from_secs(101));
        assert_eq!(ask(Err("away")).await.unwrap_err(), "away");
        assert_eq!(ask(Ok("three")).await.unwrap(), "three");
        cache.forget("host:5080").unwrap();
        cache.forget("host:5080").unwrap();
        assert_eq!(ask(Ok("four")).await.unwrap(), "four");

        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&cache.folder), 0o700);
        for entry in std::fs::read_dir(&cache.folder).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
}
