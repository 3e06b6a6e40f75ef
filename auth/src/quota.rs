//! What an account may keep, as its document says it. Counting and refusing are storage's: the limit goes there with the right to
//! write ([`crate::Permit::repository`]).

use serde::{Deserialize, Serialize};
use storage::AccountName;

use crate::{account::AccountRecord, error::Error, installation::Auth};

/// A quota in bytes, or the word that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quota {
    /// So many bytes of blobs, counted once for each repository that contains them.
    Bytes(u64),
    /// `"none"`: no quota, whatever the default is.
    Unlimited(NoQuota),
}

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoQuota {
    /// There is none.
    None,
}

impl Quota {
    /// No quota.
    pub const UNLIMITED: Self = Self::Unlimited(NoQuota::None);
}

impl Auth {
    /// What an account may use in bytes, as its document or the default says; `None`: all there is room for.
    pub(crate) fn quota(&self, record: &AccountRecord) -> Option<u64> {
        match record.quota_bytes {
            Some(Quota::Bytes(bytes)) => Some(bytes),
            Some(Quota::Unlimited(NoQuota::None)) => None,
            None => self.settings.default_quota,
        }
    }

    /// The same of a living account by its name, read now.
    pub async fn quota_of(&self, name: &AccountName) -> Result<Option<u64>, Error> {
        Ok(self.quota(&self.living(name).await?.value))
    }
}
