//! One line that says where, what and the way out.

use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The embedded default.
    Default,
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, dashes included.
    Flag(String),
}

impl Origin {
    /// Its place among the layers: what lies higher counts.
    pub(crate) fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A configuration that cannot be used. Its text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file named by `--config` or `HYTHE_CONFIG` cannot be read.
    #[error("{}: {source}; name a file that exists with --config or HYTHE_CONFIG, or none", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that is no setting.
    #[error("{origin}: there is no setting {key}{}", near.map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// The setting it resembles.
        near: Option<&'static str>,
    },
    /// A value that is not one of this setting.
    #[error("{key} ({origin}): {rule}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// Where its value came from.
        origin: Origin,
        /// What is wrong, and what it should be.
        rule: String,
    },
    /// Two settings that exclude one another.
    #[error("{first} ({first_origin}) and {second} ({second_origin}) are both set; keep one")]
    Conflict {
        /// One setting.
        first: String,
        /// Where it is set.
        first_origin: Origin,
        /// The other.
        second: String,
        /// Where it is set.
        second_origin: Origin,
    },
    /// A setting that needs another.
    #[error("{key} ({origin}) needs {needed}; set both or neither")]
    Alone {
        /// The setting that is there.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
        /// The one that is not.
        needed: &'static str,
    },
}
