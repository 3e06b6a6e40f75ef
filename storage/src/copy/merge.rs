//! Two lists of keys side by side, in their order, a page at a time.

use std::{cmp::Ordering, collections::VecDeque};

use crate::{
    Error,
    backend::{Entry, Records},
    key::Prefix,
};

/// Rows of one list that are in memory.
const PAGE: usize = 1000;

/// A name, and what either store has under it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) source: Option<Entry>,
    pub(super) target: Option<Entry>,
}

/// One of the two lists.
struct List<'a> {
    records: Option<&'a dyn Records>,
    waiting: VecDeque<Entry>,
    after: Option<String>,
    ended: bool,
}

impl<'a> List<'a> {
    fn new(records: Option<&'a dyn Records>) -> Self {
        Self { records, waiting: VecDeque::new(), after: None, ended: false }
    }

    async fn fill(&mut self, prefix: &Prefix) -> Result<(), Error> {
        if self.waiting.is_empty()
            && !self.ended
            && let Some(records) = self.records
        {
            let page = records.page(prefix, self.after.as_deref(), PAGE).await?;
            self.ended = page.len() < PAGE;
            if let Some(last) = page.last() {
                self.after = Some(last.name.clone());
            }
            self.waiting = page.into();
        }
        Ok(())
    }
}

/// What is under a prefix in two stores.
pub(super) struct Merge<'a> {
    prefix: &'a Prefix,
    source: List<'a>,
    target: List<'a>,
}

impl<'a> Merge<'a> {
    /// A store without a source has nothing.
    pub(super) fn new(prefix: &'a Prefix, source: Option<&'a dyn Records>, target: &'a dyn Records) -> Self {
        Self { prefix, source: List::new(source), target: List::new(Some(target)) }
    }

    /// The next name, `None` at the end of both.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, Error> {
        self.source.fill(self.prefix).await?;
        self.target.fill(self.prefix).await?;
        let order = match (self.source.waiting.front(), self.target.waiting.front()) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(target)) => source.name.cmp(&target.name),
        };
        let source = if order.is_le() { self.source.waiting.pop_front() } else { None };
        let target = if order.is_ge() { self.target.waiting.pop_front() } else { None };
        let name = source.as_ref().or(target.as_ref()).map(|entry| entry.name.clone());
        Ok(name.map(|name| Row { name, source, target }))
    }
}
