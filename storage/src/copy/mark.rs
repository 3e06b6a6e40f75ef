//! `sys/copied` of a target: whose copy it is and how far it has come, so that a command that was killed goes on and a repeated
//! backup copies what has changed. A store with this mark belongs to the copier; `serve` takes the mark away.

use serde::{Deserialize, Serialize};

use super::Half;
use crate::{
    Error, Time,
    backend::Records,
    format::{self, Mode, State},
    key, record,
};

/// What a copy is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// To be kept.
    Backup,
    /// To be served in the place of a store that is lost.
    Restore,
    /// To be served in the place of the source.
    Move,
}

/// The record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Copied {
    /// The installation, as `sys/install` names it.
    installation: String,
    /// Where the source lies, as the operator names it.
    place: String,
    aim: Aim,
    /// Whatever the target has is the source's as it was then or later, in the source's time.
    pub(super) floor: Option<Time>,
    /// Whether something in the target is of another place, so that nothing is known of it before it was compared.
    #[serde(default)]
    mixed: bool,
    /// Whether source and target were found to be the same, the source being frozen.
    #[serde(default)]
    same: bool,
}

/// Which installation a store is.
async fn installation(records: &dyn Records) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Install {
        id: String,
    }
    let Some(found) = records.get(&key::install()).await? else { return Ok(None) };
    let install: Install =
        serde_json::from_slice(&found.body).map_err(|e| Error::corrupt(format!("record sys/install: {e}")))?;
    Ok(Some(install.id))
}

/// Makes a store the target of a copy, or finds that it is. [`Error::Refused`] if it is anything else.
pub(super) async fn claim(source: &Half, target: &Half, mode: Mode, place: &str, aim: Aim) -> Result<Copied, Error> {
    let refused = |line: &str| Err(Error::Refused(line.to_owned()));
    let Some(installation) = installation(&*source.records).await? else {
        return refused("there is nothing to copy: no server has used this store yet");
    };
    let records = &*target.records;
    let present = record::read::<Copied>(records, &key::copied()).await?.map(|found| found.value);
    let state = format::fill(records, mode).await?.state;
    let copied = match (present, state) {
        (Some(copied), _) if copied.installation != installation => {
            return refused("the target is a copy of another registry; name an empty one");
        }
        (Some(copied), _) if copied.aim != aim => {
            return refused("the target was made by another command (backup, restore or move); name an empty one");
        }
        (Some(copied), _) if copied.place != place => {
            // Another store's time says nothing here: everything is compared again.
            Copied { place: place.to_owned(), floor: None, mixed: true, same: false, ..copied }
        }
        (Some(copied), _) => copied,
        // Claimed by a run that died before it left its mark.
        (None, State::Filling) => {
            Copied { installation, place: place.to_owned(), aim, floor: None, mixed: false, same: false }
        }
        (None, _) => return refused("the target is a registry of its own; name an empty folder or an empty bucket"),
    };
    // First the state, then the mark: a store with a mark may be overwritten.
    if state != State::Filling {
        format::set_state(records, State::Filling).await?;
    }
    write(records, copied.clone()).await?;
    Ok(copied)
}

/// A pass has begun: all that a first one writes is of this time or later.
pub(super) async fn began(records: &dyn Records, floor: Time) -> Result<(), Error> {
    change(records, |copied| {
        if !copied.mixed {
            copied.floor.get_or_insert(floor);
        }
        copied.same = false;
    })
    .await
}

/// A pass that began at `floor` has ended.
pub(super) async fn reached(records: &dyn Records, floor: Time) -> Result<(), Error> {
    change(records, |copied| (copied.floor, copied.mixed) = (Some(floor), false)).await
}

/// Remembers that source and frozen target are the same.
pub(super) async fn same(records: &dyn Records) -> Result<(), Error> {
    change(records, |copied| copied.same = true).await
}

/// Whether a target was found to be the same as the source that is marked as moved: all that is left is to open it.
pub async fn agreed(records: &dyn Records) -> Result<bool, Error> {
    Ok(record::read::<Copied>(records, &key::copied()).await?.is_some_and(|found| found.value.same))
}

/// Takes the mark away: the store is nobody's copy any more.
pub async fn release(records: &dyn Records) -> Result<(), Error> {
    record::remove(records, &key::copied()).await
}

async fn change(records: &dyn Records, mut change: impl FnMut(&mut Copied)) -> Result<(), Error> {
    record::modify(records, &key::copied(), |copied: &mut Copied| {
        change(copied);
        Ok::<_, Error>(true)
    })
    .await?
    .map(drop)
    .ok_or_else(|| Error::Refused("somebody serves the target of this copy; stop that server".into()))
}

async fn write(records: &dyn Records, copied: Copied) -> Result<(), Error> {
    match record::create(records, &key::copied(), copied.clone()).await {
        Ok(_) => Ok(()),
        Err(Error::Conflict) => change(records, |present| *present = copied.clone()).await,
        Err(other) => Err(other),
    }
}
