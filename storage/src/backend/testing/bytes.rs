use std::sync::Arc;

use futures::TryStreamExt;
use tokio::task::JoinSet;

use super::repository;
use crate::{
    Account, Error,
    backend::{Bytes, Checkpoint, Claim},
    key::DataId,
};

/// Runs every promise of [`Bytes`] on a store.
pub async fn bytes(store: Arc<dyn Bytes>) {
    objects_of_every_size_come_back(store.as_ref()).await;
    a_body_within_the_first_part_is_one_object(store.as_ref()).await;
    ranges_are_clipped(store.as_ref()).await;
    a_killed_upload_goes_on_where_it_was_saved(store.as_ref()).await;
    an_upload_in_many_visits_is_one_object(store.as_ref()).await;
    finishing_twice_is_finishing_once(store.as_ref()).await;
    an_aborted_upload_is_gone_and_a_finished_one_stays(store.as_ref()).await;
    deleting_twice_is_deleting_once(store.as_ref()).await;
    two_writers_never_mix_their_bytes(store.as_ref()).await;
    many_uploads_at_once_stay_apart(&store).await;
    a_page_shows_the_generation_s_objects(store.as_ref()).await;
    store.admit().await.unwrap();
}

/// `size` bytes that differ from those of another `seed`, and from their own neighbours.
fn content(seed: u64, size: usize) -> bytes::Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    out.truncate(size);
    out.into()
}

fn account() -> Account {
    repository().account().clone()
}

/// A size that every backend has a border near: its first part, or a mebibyte where files grow.
fn border(store: &dyn Bytes) -> usize {
    store.first_part().unwrap_or(1 << 20)
}

async fn read(store: &dyn Bytes, x: &DataId, range: Option<std::ops::Range<u64>>) -> (u64, Vec<u8>) {
    let content = store.read(x, range).await.unwrap();
    let frames: Vec<bytes::Bytes> = content.stream.try_collect().await.unwrap();
    (content.size, frames.concat())
}

/// Reads all of X and compares, without printing megabytes when it fails.
async fn assert_content(store: &dyn Bytes, x: &DataId, expected: &[u8]) {
    let (size, read) = read(store, x, None).await;
    assert_eq!((size, read.len()), (expected.len() as u64, expected.len()));
    assert!(read == expected, "{x:?} holds other bytes");
}

/// Opens at a checkpoint, appends in uneven pieces, and ends with a checkpoint.
async fn visit(store: &dyn Bytes, x: &DataId, at: &Checkpoint, data: &bytes::Bytes) -> Checkpoint {
    let mut writer = store.open(x, &at.saved, at.offset, at.tail.clone()).await.unwrap();
    for piece in pieces(data) {
        writer.append(piece).await.unwrap();
    }
    let end = writer.checkpoint(true).await.unwrap();
    assert_eq!(end.offset, at.offset + data.len() as u64);
    end
}

fn pieces(data: &bytes::Bytes) -> impl Iterator<Item = bytes::Bytes> {
    const PIECE: usize = 700_001;
    (0..data.len()).step_by(PIECE).map(|at| data.slice(at..data.len().min(at + PIECE)))
}

async fn begin(store: &dyn Bytes, x: &DataId, whole: bool, expected: Option<u64>) -> Checkpoint {
    let saved = store.begin(x, whole, expected).await.unwrap();
    Checkpoint { saved, offset: 0, tail: None }
}

async fn finish(store: &dyn Bytes, x: &DataId, at: &Checkpoint) -> Result<(), Error> {
    let mut writer = store.open(x, &at.saved, at.offset, at.tail.clone()).await?;
    assert_eq!(writer.checkpoint(true).await?.offset, at.offset);
    writer.finish(at.offset).await
}

async fn upload(store: &dyn Bytes, x: &DataId, data: &bytes::Bytes) {
    let whole = store.first_part().is_some_and(|first| data.len() <= first);
    let at = visit(store, x, &begin(store, x, whole, Some(data.len() as u64)).await, data).await;
    finish(store, x, &at).await.unwrap();
}

async fn objects_of_every_size_come_back(store: &dyn Bytes) {
    let (account, border) = (account(), border(store));
    for size in [0, 1, 65_535, 65_536, 65_537, border - 1, border, border + 1, 2 * border, 3 * border + 7] {
        let (x, data) = (DataId::random(&account), content(size as u64, size));
        upload(store, &x, &data).await;
        assert_content(store, &x, &data).await;
        store.delete(&x).await.unwrap();
    }
}

async fn a_body_within_the_first_part_is_one_object(store: &dyn Bytes) {
    let Some(first) = store.first_part() else { return };
    let (x, data) = (DataId::random(&account()), content(1, first));
    let begun = begin(store, &x, true, None).await;
    assert!(!store.can_grow(&begun.saved));
    let mut writer = store.open(&x, &begun.saved, 0, None).await.unwrap();
    writer.append(data.clone()).await.unwrap();
    let at = writer.checkpoint(true).await.unwrap();
    writer.finish(at.offset).await.unwrap();
    assert!(!store.can_grow(&at.saved));
    assert_content(store, &x, &data).await;
    let growing = begin(store, &DataId::random(&account()), false, None).await;
    assert!(store.can_grow(&growing.saved));
}

async fn ranges_are_clipped(store: &dyn Bytes) {
    let (x, size) = (DataId::random(&account()), 1_500_000);
    let data = content(2, size);
    assert!(matches!(store.read(&x, None).await, Err(Error::NoBlob)));
    assert!(matches!(store.read(&x, Some(0..0)).await, Err(Error::NoBlob)));
    upload(store, &x, &data).await;
    let end = size as u64;
    for range in [0..1, 0..end, 1..2, 524_287..524_289, 700_000..1_400_001, end - 1..end] {
        let expected = &data[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert!(read(store, &x, Some(range.clone())).await == (end, expected.to_vec()), "{range:?}");
    }
    for range in [0..0, 5..5, end..end, end..end + 5, end + 5..end + 9] {
        assert_eq!(read(store, &x, Some(range.clone())).await, (end, Vec::new()), "{range:?}");
    }
    assert_eq!(read(store, &x, Some(end - 2..u64::MAX)).await.1, data[size - 2..]);
}

async fn a_killed_upload_goes_on_where_it_was_saved(store: &dyn Bytes) {
    let border = border(store);
    let data = content(3, 3 * border + 1234);
    let (x, cut) = (DataId::random(&account()), border + border / 2);
    let begun = begin(store, &x, false, None).await;

    // Killed before anything was saved.
    let mut writer = store.open(&x, &begun.saved, 0, None).await.unwrap();
    writer.append(content(99, cut)).await.unwrap();
    drop(writer);

    // Killed after a heartbeat had saved some of it.
    let mut writer = store.open(&x, &begun.saved, 0, None).await.unwrap();
    for piece in pieces(&data.slice(..cut)) {
        writer.append(piece).await.unwrap();
    }
    let beat = writer.checkpoint(false).await.unwrap();
    assert!(beat.offset <= cut as u64 && beat.tail.is_none());
    writer.append(content(98, border)).await.unwrap();
    drop(writer);

    // Killed after the end of a visit, and again after bytes beyond it.
    let at = usize::try_from(beat.offset).unwrap();
    let saved = visit(store, &x, &beat, &data.slice(at..cut)).await;
    let mut writer = store.open(&x, &saved.saved, saved.offset, saved.tail.clone()).await.unwrap();
    writer.append(content(97, 2 * border)).await.unwrap();
    drop(writer);

    // Killed after a heartbeat that had nothing new to save.
    let mut writer = store.open(&x, &saved.saved, saved.offset, saved.tail.clone()).await.unwrap();
    let beat = writer.checkpoint(false).await.unwrap();
    drop(writer);
    let at = usize::try_from(beat.offset).unwrap();
    let saved = visit(store, &x, &beat, &data.slice(at..cut)).await;

    let end = visit(store, &x, &saved, &data.slice(cut..)).await;
    // Killed between the end and the commit, which needs no tail.
    let bare = Checkpoint { tail: None, ..end.clone() };
    finish(store, &x, &bare).await.unwrap();
    assert_content(store, &x, &data).await;
}

async fn an_upload_in_many_visits_is_one_object(store: &dyn Bytes) {
    let border = border(store);
    let data = content(4, 2 * border + 77);
    let x = DataId::random(&account());
    let mut at = begin(store, &x, false, None).await;
    for cut in [1, 2, border - 1, border, border + 5, 2 * border, data.len()] {
        let from = usize::try_from(at.offset).unwrap();
        at = visit(store, &x, &at, &data.slice(from..cut)).await;
    }
    finish(store, &x, &at).await.unwrap();
    assert_content(store, &x, &data).await;
}

async fn finishing_twice_is_finishing_once(store: &dyn Bytes) {
    for whole in [true, false] {
        let (x, data) = (DataId::random(&account()), content(5, 100_000));
        let at = visit(store, &x, &begin(store, &x, whole, None).await, &data).await;
        finish(store, &x, &at).await.unwrap();
        let mut writer = store.open(&x, &at.saved, at.offset, at.tail.clone()).await.unwrap();
        writer.finish(at.offset).await.unwrap();
        assert!(matches!(writer.finish(at.offset + 1).await, Err(Error::NoUpload)));
        drop(writer);
        assert_content(store, &x, &data).await;
    }
}

async fn an_aborted_upload_is_gone_and_a_finished_one_stays(store: &dyn Bytes) {
    let (x, data) = (DataId::random(&account()), content(6, 100_000));
    let at = visit(store, &x, &begin(store, &x, false, None).await, &data).await;
    store.abort(&x, &at.saved).await.unwrap();
    store.abort(&x, &at.saved).await.unwrap();
    if store.claim() == Claim::Document {
        assert!(matches!(finish(store, &x, &at).await, Err(Error::NoUpload)));
        assert!(matches!(store.read(&x, None).await, Err(Error::NoBlob)));
    }
    store.delete(&x).await.unwrap();

    let x = DataId::random(&account());
    let at = visit(store, &x, &begin(store, &x, false, None).await, &data).await;
    finish(store, &x, &at).await.unwrap();
    store.abort(&x, &at.saved).await.unwrap();
    assert_content(store, &x, &data).await;
}

async fn deleting_twice_is_deleting_once(store: &dyn Bytes) {
    let (x, data) = (DataId::random(&account()), content(7, 100_000));
    store.delete(&x).await.unwrap();
    upload(store, &x, &data).await;
    store.delete(&x).await.unwrap();
    assert!(matches!(store.read(&x, None).await, Err(Error::NoBlob)));
    store.delete(&x).await.unwrap();

    let at = visit(store, &x, &begin(store, &x, false, None).await, &data).await;
    store.delete(&x).await.unwrap();
    store.abort(&x, &at.saved).await.unwrap();
    assert!(matches!(finish(store, &x, &at).await, Err(Error::NoUpload)));
}

async fn two_writers_never_mix_their_bytes(store: &dyn Bytes) {
    let border = border(store);
    let x = DataId::random(&account());
    let begun = begin(store, &x, false, None).await;
    let mut first = store.open(&x, &begun.saved, 0, None).await.unwrap();
    let second = store.open(&x, &begun.saved, 0, None).await;
    if store.claim() == Claim::Lock {
        assert!(matches!(second, Err(Error::Conflict)));
        first.append(content(8, 10)).await.unwrap();
        let at = first.checkpoint(true).await.unwrap();
        assert!(matches!(store.open(&x, &at.saved, at.offset, None).await, Err(Error::Conflict)));
        drop(first);
        store.open(&x, &at.saved, at.offset, None).await.unwrap();
        return;
    }
    let mut second = second.unwrap();
    let (stale, taken) = (content(8, border + 10), content(9, border + 10));
    first.append(stale).await.unwrap();
    let stale_end = first.checkpoint(true).await.unwrap().offset;
    second.append(taken.clone()).await.unwrap();
    let end = second.checkpoint(true).await.unwrap().offset;
    assert!(matches!(first.finish(stale_end).await, Err(Error::NoUpload)));
    second.finish(end).await.unwrap();
    assert_content(store, &x, &taken).await;
}

async fn many_uploads_at_once_stay_apart(store: &Arc<dyn Bytes>) {
    let account = account();
    let mut tasks = JoinSet::new();
    for seed in 0..16 {
        let (store, x) = (Arc::clone(store), DataId::random(&account));
        tasks.spawn(async move {
            let data = content(seed, 1_000_000);
            upload(store.as_ref(), &x, &data).await;
            assert_content(store.as_ref(), &x, &data).await;
        });
    }
    tasks.join_all().await;
}

async fn a_page_shows_the_generation_s_objects(store: &dyn Bytes) {
    let (account, neighbour) = (account(), account());
    let mut expected = Vec::new();
    for n in 0..5 {
        let x = DataId::random(&account);
        upload(store, &x, &content(n, 10)).await;
        upload(store, &DataId::random(&neighbour), &content(n, 10)).await;
        expected.push(x.id().to_owned());
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page = store.page(account.generation(), seen.last().map(String::as_str), 2).await.unwrap();
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|x| x.id().to_owned()));
        if page.len() < 2 {
            break;
        }
    }
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}
