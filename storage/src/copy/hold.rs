//! The hold: while it is fresh, the trash of the source deletes no bytes.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{Clock, Error, Time, backend::Records, key};

/// How often it is renewed.
const RENEWED: Duration = Duration::from_mins(1);
/// A copier that could not renew its hold for so long knows nothing any more of what it has read: the trash heeds a hold for an
/// hour.
const LOST: Duration = Duration::from_mins(30);

/// `sys/hold/<id>` of the source.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    records: &'a dyn Records,
    clock: &'a dyn Clock,
    id: String,
    renewed: Mutex<Duration>,
}

impl<'a> Hold<'a> {
    pub(super) fn new(records: &'a dyn Records, clock: &'a dyn Clock) -> Self {
        Self { records, clock, id: crate::random_text(16), renewed: Mutex::new(clock.elapsed()) }
    }

    /// Writes it, and tells the store's time of that.
    pub(super) async fn put(&self) -> Result<Time, Error> {
        let began = self.clock.elapsed();
        let key = key::hold(&self.id);
        self.records.put(&key, bytes::Bytes::from_static(b".")).await?;
        *self.renewed.lock() = began;
        let found = self.records.get_plain(&key).await?;
        found.map(|found| found.modified).ok_or_else(|| Error::unavailable("a key that was just written is not there"))
    }

    /// Renews it until it is lost.
    pub(super) async fn keep(&self) -> Error {
        loop {
            tokio::time::sleep(RENEWED).await;
            let Err(error) = self.put().await else { continue };
            tracing::warn!(error = &error as &dyn std::error::Error, "the hold of this copy was not renewed");
            if self.clock.elapsed().saturating_sub(*self.renewed.lock()) > LOST {
                return error;
            }
        }
    }

    /// Takes it back; if that fails, it is ignored an hour later.
    pub(super) async fn release(&self) {
        if let Err(error) = self.records.delete(&key::hold(&self.id)).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the hold of this copy stays for an hour");
        }
    }
}
