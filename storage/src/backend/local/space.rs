use std::path::{Path, PathBuf};

use rustix::fs::{StatFs, statfs};

use crate::Error;

/// How much of a disk uploads may not touch, so that deletes, revocations and collection still work when it is full.
#[derive(Debug, Clone)]
pub(super) struct Space {
    folder: PathBuf,
}

/// The disk under a folder, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What may still be written.
    pub free: u64,
    /// All of it.
    pub size: u64,
    /// Uploads are refused below this much free.
    pub reserve: u64,
}

const RESERVE: u64 = 256 << 20;

/// `f_type` of the file systems whose locks or syncs depend on another machine.
const NETWORK: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
];

fn stat(folder: &Path) -> Result<StatFs, Error> {
    statfs(folder).map_err(Error::unavailable)
}

impl Space {
    pub(super) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// [`Error::Full`] when less than max(2 %, 256 MiB) is free, or a quarter where that would be most of the disk.
    pub(super) fn admit(&self) -> Result<(), Error> {
        let disk = self.disk()?;
        if disk.free < disk.reserve { Err(Error::Full) } else { Ok(()) }
    }

    pub(super) fn disk(&self) -> Result<Disk, Error> {
        let stat = stat(&self.folder)?;
        let unit = u64::try_from(stat.f_bsize).unwrap_or(1);
        let size = stat.f_blocks.saturating_mul(unit);
        let reserve = (size / 50).max(RESERVE).min(size / 4);
        Ok(Disk { free: stat.f_bavail.saturating_mul(unit), size, reserve })
    }

    /// The name of the network file system that the folder lies on.
    pub(super) fn network(&self) -> Result<Option<&'static str>, Error> {
        // Sign-extended on some platforms; the magic numbers are 32 bits.
        let kind = u64::try_from(i128::from(stat(&self.folder)?.f_type) & 0xffff_ffff).unwrap_or_default();
        Ok(NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name))
    }
}
