//! What a store holds, read past the server: every data object, and what names it.

use std::collections::{BTreeMap, BTreeSet};

use conformance::{Harness, harness::make_dir};
use serde_json::Value;
use storage::{
    Generation,
    backend::{Bytes, Records, local, remote},
    clock::SystemClock,
    key::Prefix,
    record,
};

/// The store of a harness, open beside its server.
pub(super) struct Opened {
    records: std::sync::Arc<dyn Records>,
    bytes: std::sync::Arc<dyn Bytes>,
}

/// What is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// Data objects.
    pub(super) objects: BTreeSet<String>,
    /// Data objects that members name, with a repository and digest that does.
    pub(super) members: BTreeMap<String, String>,
    /// Members that no manifest of their repository names.
    pub(super) unreferenced: usize,
    /// Upload sessions, tails, pendings and trash intents.
    pub(super) under_way: usize,
}

impl Stored {
    /// Members without bytes.
    pub(super) fn lost(&self) -> Vec<&String> {
        self.members.iter().filter(|(x, _)| !self.objects.contains(*x)).map(|(_, member)| member).collect()
    }

    /// Whether nothing is there but what a manifest needs.
    pub(super) fn is_clean(&self) -> bool {
        self.unreferenced == 0 && self.under_way == 0 && self.objects.iter().all(|x| self.members.contains_key(x))
    }
}

impl Opened {
    pub(super) async fn of(harness: &Harness) -> Self {
        let environment = harness.environment();
        if environment.is_empty() {
            let (path, clock) = (harness.data(), std::sync::Arc::new(SystemClock::new()));
            make_dir(&path);
            let open = move || local::Folder::open(&path, local::Options::default(), clock).unwrap();
            let folder = tokio::task::spawn_blocking(open).await.unwrap();
            return Self { records: folder.records.clone(), bytes: folder.bytes.clone() };
        }
        let bucket = remote::Bucket::parse(&conformance::bucket::Bucket::url(), environment).unwrap();
        Self { records: bucket.records().await.unwrap(), bytes: bucket.bytes().await.unwrap() }
    }

    async fn names(&self, prefix: &Prefix) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let page = self.records.page(prefix, names.last().map(String::as_str), 1000).await.unwrap();
            let end = page.len() < 1000;
            names.extend(page.into_iter().map(|row| row.name));
            if end {
                return names;
            }
        }
    }

    /// Everything of every account.
    pub(super) async fn look(&self) -> Stored {
        let mut trash = self.names(&storage::key::trash_all()).await;
        trash.retain(|name| !name.starts_with(".stamp/"));
        let mut stored = Stored { under_way: trash.len(), ..Stored::default() };
        for generation in self.names(&storage::key::generations()).await {
            self.account(&generation.parse().unwrap(), &mut stored).await;
        }
        stored
    }

    async fn account(&self, generation: &Generation, stored: &mut Stored) {
        let prefix = storage::key::stored(generation);
        let (mut named, mut members) = (BTreeSet::new(), Vec::new());
        for name in self.names(&prefix).await {
            let parts: Vec<&str> = name.split('/').collect();
            match *parts.as_slice() {
                ["r", repository, "m", _] => {
                    let Some(header) = self.value(&prefix, &name).await else { continue };
                    for reference in header["refs"].as_array().into_iter().flatten() {
                        named.insert((repository.to_owned(), reference["digest"].as_str().unwrap().to_owned()));
                    }
                }
                ["r", repository, "b", digest] => {
                    let Some(member) = self.value(&prefix, &name).await else { continue };
                    let x = member["x"].as_str().unwrap().to_owned();
                    members.push((repository.to_owned(), digest.replacen('-', ":", 1), x));
                }
                ["u", _] | ["r", _, "i", _] => stored.under_way += 1,
                _ => {}
            }
        }
        for (repository, digest, x) in members {
            stored.members.insert(x, format!("{repository} {digest}"));
            stored.unreferenced += usize::from(!named.contains(&(repository, digest)));
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.bytes.page(generation, after.as_deref(), 1000).await.unwrap();
            stored.objects.extend(page.iter().map(|x| x.id().to_owned()));
            if page.len() < 1000 {
                return;
            }
            after = page.last().map(|x| x.id().to_owned());
        }
    }

    async fn value(&self, prefix: &Prefix, name: &str) -> Option<Value> {
        let found = record::read::<Value>(&*self.records, &prefix.record(name)).await.unwrap();
        found.map(|found| found.value)
    }
}
