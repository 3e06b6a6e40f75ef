use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::refused;
use crate::Error;

/// The right to run everything that takes several writes on one store: a kernel lock, gone with the process that holds it.
///
/// The file names its holder, for whoever is refused, and its own inode: a folder that was copied does not match it.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
    copied: bool,
}

/// Opens the lock's file without locking it, which also shows whether the folder can be written.
pub(super) fn touch(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(|e| refused(path.parent().unwrap_or(path), &e))
}

impl ServeLock {
    /// Takes the lock at `path`. [`Error::Refused`] names the process that holds it.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let mut file = touch(path)?;
        let place = path.parent().unwrap_or(path).display();
        let mut text = String::new();
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let _unreadable = file.read_to_string(&mut text);
                let holder =
                    text.split_whitespace().next().map_or("another process".to_owned(), |p| format!("process {p}"));
                return Err(Error::Refused(format!(
                    "{place} is already served by {holder}; stop that one, or give this server a folder of its own"
                )));
            }
            Err(e) => return Err(Error::Refused(format!("{place} cannot be locked ({e}); use a local file system"))),
        }
        let inode = file.metadata().map(|m| m.ino()).unwrap_or_default();
        let _unreadable = file.read_to_string(&mut text);
        let copied = text.split_whitespace().nth(1).is_some_and(|recorded| recorded != inode.to_string());
        // On a full disk the line stays unwritten; the lock holds all the same.
        let _unwritten = sign(&mut file, inode);
        Ok(Self { _file: file, copied })
    }

    /// Whether the folder was copied, moved between disks or restored since it was last served.
    pub fn copied(&self) -> bool {
        self.copied
    }
}

fn sign(file: &mut File, inode: u64) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {inode}", std::process::id())
}
