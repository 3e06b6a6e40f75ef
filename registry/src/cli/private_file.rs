//! Files that hold a key: read only if nobody else can read them.

use std::{
    fs::Permissions,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

use config::Secret;

/// Who may read a file with a key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner.
    Owner,
    /// Its owner and its group: how Kubernetes mounts a Secret into a pod.
    OwnerAndGroup,
}

/// The text of a file that nobody else can read; otherwise a line that names it and the way out.
pub(super) fn read(path: &Path, readers: Readers) -> Result<Secret, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(told)?;
    let others = match readers {
        Readers::Owner => 0o077,
        Readers::OwnerAndGroup => 0o007,
    };
    let mode = metadata.mode() & 0o777;
    if mode & others != 0 {
        let name = path.display();
        return Err(format!(
            "{name} holds a key and can be read or changed by others (mode {mode:o}): chmod 600 {name}"
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if ![0, own].contains(&metadata.uid()) {
        return Err(format!("{} holds a key and belongs to another user: chown it", path.display()));
    }
    let text = text(path).map_err(told)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{} is empty: put an access key there", path.display()));
    }
    Ok(Secret::new(text))
}

/// A file without secrets.
#[expect(clippy::disallowed_methods, reason = "the command line reads what it is given")]
pub(super) fn text(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

/// Makes a folder that its owner alone may enter, or makes an existing one so.
pub(super) fn folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    if std::fs::metadata(path)?.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_refused_by_the_name_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        super::super::output::write_private(&path, "hyak_x\n").unwrap();
        assert_eq!(read(&path, Readers::Owner).unwrap().reveal(), "hyak_x");
        for (mode, owner, group) in
            [(0o644, false, false), (0o640, false, true), (0o602, false, false), (0o400, true, true)]
        {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for (readers, good) in [(Readers::Owner, owner), (Readers::OwnerAndGroup, group)] {
                let outcome = read(&path, readers);
                assert_eq!(outcome.is_ok(), good, "{mode:o} {readers:?}: {outcome:?}");
                if let Err(line) = outcome {
                    assert!(line.contains(path.to_str().unwrap()) && line.contains(&format!("{mode:o}")), "{line}");
                }
            }
        }
    }
}
