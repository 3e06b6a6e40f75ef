use serde::{Deserialize, Serialize};

/// What an access key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything in the account, keys included.
    Owner,
    /// Mints pull and push credentials within its patterns (`delete` only if the key has it); packages.
    Publisher,
    /// Mints pull credentials within its patterns and revokes what it minted: the renewable key a vendor gives one customer.
    Installer,
    /// Lists and reads; mints nothing, changes nothing.
    Viewer,
}

impl Role {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Publisher => "publisher",
            Self::Installer => "installer",
            Self::Viewer => "viewer",
        }
    }

    pub(crate) const fn with_article(self) -> &'static str {
        match self {
            Self::Owner => "an owner",
            Self::Publisher => "a publisher",
            Self::Installer => "an installer",
            Self::Viewer => "a viewer",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Owner, Self::Publisher, Self::Installer, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or("a role is owner, publisher, installer or viewer")
    }
}
