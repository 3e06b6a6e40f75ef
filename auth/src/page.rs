//! Pages of records, a cost proportional to what is asked for.

use serde::{Serialize, de::DeserializeOwned};
use storage::{
    backend::Records,
    key::Prefix,
    record::{self, Document},
};

use crate::error::Error;

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub struct Page {
    /// Items after this name or id.
    pub after: Option<String>,
    /// How many rows are looked at, 1 to 100; rows that have ended may make the answer shorter.
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: 20 }
    }
}

/// A part of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Listing<T> {
    /// The items.
    pub items: Vec<T>,
    /// What [`Page::after`] is for the next part; `None` at the end.
    pub next: Option<String>,
}

/// Most rows of one page.
const MOST: usize = 100;
/// Records of a page that are read at once.
const AT_ONCE: usize = 8;

/// Reads the records of one page; `show` leaves out what is not to be listed. What vanished between list and read is left out.
pub(crate) async fn one_page<R, T>(
    records: &dyn Records,
    prefix: &Prefix,
    page: &Page,
    mut show: impl FnMut(&str, Document<R>) -> Option<T>,
) -> Result<Listing<T>, Error>
where
    R: Serialize + DeserializeOwned,
{
    let limit = page.limit.clamp(1, MOST);
    let rows = records.page(prefix, page.after.as_deref(), limit).await?;
    let next = (rows.len() == limit).then(|| rows.last().map(|row| row.name.clone())).flatten();
    let mut items = Vec::new();
    for rows in rows.chunks(AT_ONCE) {
        let keys: Vec<_> = rows.iter().map(|row| prefix.record(&row.name)).collect();
        let reads = keys.iter().map(|key| record::read::<R>(records, key));
        for (row, found) in rows.iter().zip(futures::future::join_all(reads).await) {
            items.extend(found?.and_then(|document| show(&row.name, document)));
        }
    }
    Ok(Listing { items, next })
}
