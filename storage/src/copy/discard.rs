//! The trash of a target, which no server works on: bytes whose last blob is gone.

use super::Half;
use crate::{
    Clock, Digest, Error, Generation,
    key::{self, DataId},
    member::{Member, TrashIntent},
    record,
};

/// Intents of a page.
const PAGE: usize = 500;

/// Leaves bytes to [`discard`], before the record that names them goes.
pub(super) async fn intend(
    target: &Half,
    clock: &dyn Clock,
    x: &DataId,
    path: &str,
    digest: &Digest,
    member: &Member,
) -> Result<(), Error> {
    let intent = TrashIntent {
        repository: path.to_owned(),
        digests: vec![digest.clone()],
        origin: member.origin.clone(),
        sid: None,
        size: member.size,
    };
    let body = serde_json::to_vec(&intent).map_err(Error::unknown)?;
    target.records.put(&key::trash(clock.now(), x), body.into()).await
}

/// Deletes the bytes that no blob of the target names any more. The target is this process's alone, so one look is enough.
pub(super) async fn discard(target: &Half) -> Result<(), Error> {
    let prefix = key::trash_all();
    loop {
        let entries = target.records.page(&prefix, None, PAGE).await?;
        for entry in &entries {
            let mark = prefix.plain(&entry.name);
            let mut parts = entry.name.splitn(3, '/').skip(1);
            let generation = parts.next().and_then(|generation| generation.parse::<Generation>().ok());
            let x = generation.as_ref().zip(parts.next()).and_then(|(generation, id)| DataId::parse(generation, id));
            let found = target.records.get_plain(&mark).await?;
            let intent = found.and_then(|found| serde_json::from_slice::<TrashIntent>(&found.body).ok());
            if let (Some(x), Some(intent)) = (x, intent)
                && !is_used(target, &x, &intent).await?
            {
                target.bytes.delete(&x).await?;
                let shares = key::shares(&x);
                for share in target.records.page(&shares, None, PAGE).await? {
                    target.records.delete(&shares.plain(&share.name)).await?;
                }
            }
            target.records.delete(&mark).await?;
        }
        if entries.len() < PAGE {
            return Ok(());
        }
    }
}

/// Whether any repository that may name these bytes does.
async fn is_used(target: &Half, x: &DataId, intent: &TrashIntent) -> Result<bool, Error> {
    let mut paths = vec![intent.repository.clone(), intent.origin.clone()];
    let shares = key::shares(x);
    let mut after: Option<String> = None;
    loop {
        let page = target.records.page(&shares, after.as_deref(), PAGE).await?;
        paths.extend(page.iter().map(|share| share.name.replace('!', "/")));
        if page.len() < PAGE {
            break;
        }
        after = page.last().map(|share| share.name.clone());
    }
    for path in paths {
        for digest in &intent.digests {
            let key = key::member_at(x.generation(), &path, digest);
            let found = record::read::<Member>(&*target.records, &key).await?;
            if found.is_some_and(|found| found.value.x.as_deref() == Some(x.id())) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
