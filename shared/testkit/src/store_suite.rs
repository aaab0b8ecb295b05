//! What the product relies on in an object store, as one suite that every destination passes.
//!
//! What it does not ask for, because stores differ: the order of a listing; whether deleting a missing object is an
//! error; whether an empty folder is listed as a prefix; what a suffix range of an empty object gives. What it pins
//! down though it may surprise: a range that reaches past the end is answered with what there is, without an error, so
//! that callers must check lengths; a range that begins past the end is an error.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode};

const MIB: usize = 1024 * 1024;
const PART: usize = 5 * MIB;
const BIG: usize = 17 * MIB;
const RACERS: usize = 16;

/// Runs the suite.
///
/// # Panics
/// When the store, which should be empty, does not do what the product relies on.
pub async fn conforms(store: Arc<dyn ObjectStore>) {
    let store = store.as_ref();
    round_trips(store).await;
    create_refuses_what_exists(store).await;
    create_has_one_winner(store).await;
    ranges(store).await;
    big_objects_in_parts(store).await;
    small_objects_in_parts(store).await;
    aborted_uploads_leave_nothing(store).await;
    listings(store).await;
    missing_objects(store).await;
    deletions(store).await;
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn put(store: &dyn ObjectStore, name: &str, bytes: impl Into<Bytes>) {
    let bytes: Bytes = bytes.into();
    store.put(&path(name), bytes.into()).await.unwrap_or_else(|error| panic!("put {name}: {error}"));
}

async fn create(store: &dyn ObjectStore, name: &str, bytes: &Bytes) -> Result<(), Error> {
    store.put_opts(&path(name), bytes.clone().into(), PutMode::Create.into()).await.map(|_| ())
}

async fn get(store: &dyn ObjectStore, name: &str) -> Bytes {
    let result = store.get(&path(name)).await.unwrap_or_else(|error| panic!("get {name}: {error}"));
    let size = result.meta.size;
    let bytes = result.bytes().await.unwrap_or_else(|error| panic!("read {name}: {error}"));
    assert_eq!(bytes.len() as u64, size, "{name} is as long as its size says");
    bytes
}

async fn names(store: &dyn ObjectStore, prefix: &str) -> BTreeSet<String> {
    let metas: Vec<_> = store.list(Some(&path(prefix))).try_collect().await.expect("list");
    let names: BTreeSet<String> = metas.iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(names.len(), metas.len(), "a listing of {prefix} names each object once");
    names
}

/// Bytes in which every position can be told from its neighbours.
fn pattern(length: usize) -> Bytes {
    (0..length as u32).map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8).collect::<Vec<u8>>().into()
}

async fn round_trips(store: &dyn ObjectStore) {
    for name in [
        "firebackup.json",
        "keys/00112233445566778899aabbccddeeff/ffeeddccbbaa99887766554433221100.json",
        "runs/ab/abcdef00112233445566778899aabbcc.run",
        "snapshots/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV.manifest",
        "receipts/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV/plan",
        "receipts/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV/0/1",
        "receipts/restore_01ARZ3NDEKTSV4RRFFQ69G5FAV/undo/0",
        "segments/pull-users/2026-01-31T14:03:00.5Z.manifest",
    ] {
        for content in [&b"first"[..], b"", b"\x00\xff\x89FBRUN\r\n"] {
            put(store, name, Bytes::copy_from_slice(content)).await;
            assert_eq!(get(store, name).await, content, "{name}");
            let meta = store.head(&path(name)).await.unwrap_or_else(|error| panic!("head {name}: {error}"));
            assert_eq!((meta.location, meta.size), (path(name), content.len() as u64));
        }
        assert!(names(store, name.rsplit_once('/').map_or("", |(folder, _)| folder)).await.contains(name), "{name}");
    }
    let megabyte = pattern(MIB + 1);
    put(store, "runs/ab/medium.run", megabyte.clone()).await;
    assert!(get(store, "runs/ab/medium.run").await == megabyte, "an object of 1 MiB comes back as it was");
}

async fn create_refuses_what_exists(store: &dyn ObjectStore) {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    create(store, "snapshots/create.manifest", &first).await.expect("create a new object");
    let refused = create(store, "snapshots/create.manifest", &second).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "create of what exists: {refused:?}");
    assert_eq!(get(store, "snapshots/create.manifest").await, first, "a refused create changes nothing");
    create(store, "snapshots/empty.manifest", &Bytes::new()).await.expect("create an empty object");
    let refused = create(store, "snapshots/empty.manifest", &first).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "an empty object exists too: {refused:?}");
}

async fn create_has_one_winner(store: &dyn ObjectStore) {
    for round in 0..4 {
        let name = format!("snapshots/race-{round}.manifest");
        let contents: Vec<Bytes> = (0..RACERS).map(|racer| format!("written by {racer}").into()).collect();
        let results = join_all(contents.iter().map(|content| create(store, &name, content))).await;
        let winners: Vec<usize> = (0..RACERS).filter(|racer| results[*racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "exactly one of {RACERS} racing creates wins");
        for (racer, result) in results.iter().enumerate() {
            let lost = matches!(result, Err(Error::AlreadyExists { .. }));
            assert!(lost || racer == winners[0], "who loses a race gets AlreadyExists: {result:?}");
        }
        assert_eq!(get(store, &name).await, contents[winners[0]], "what is there is what the winner wrote");
    }
}

async fn range(store: &dyn ObjectStore, name: &str, range: impl Into<GetRange>) -> Result<(Bytes, (u64, u64)), Error> {
    let result = store.get_opts(&path(name), GetOptions::new().with_range(Some(range.into()))).await?;
    assert_eq!(result.meta.size, 100, "a ranged read tells the size of the whole object");
    let told = (result.range.start, result.range.end);
    Ok((result.bytes().await?, told))
}

async fn ranges(store: &dyn ObjectStore) {
    let (name, content) = ("runs/cd/ranges.run", pattern(100));
    put(store, name, content.clone()).await;
    for (from, to) in [(0, 100), (0, 1), (99, 100), (17, 71)] {
        let (bytes, told) = range(store, name, from..to).await.expect("read a range");
        assert_eq!((bytes.as_ref(), told), (&content[from as usize..to as usize], (from, to)));
    }
    let (bytes, told) = range(store, name, GetRange::Offset(90)).await.expect("read from an offset");
    assert_eq!((bytes.as_ref(), told), (&content[90..], (90, 100)));
    for (length, from) in [(1, 99), (16, 84), (100, 0), (4096, 0)] {
        let (bytes, told) = range(store, name, GetRange::Suffix(length)).await.expect("read a suffix");
        assert_eq!((bytes.as_ref(), told), (&content[from as usize..], (from, 100)), "a suffix of {length}");
    }
    let (bytes, told) = range(store, name, 90..200).await.expect("read a range past the end");
    assert_eq!((bytes.as_ref(), told), (&content[90..], (90, 100)), "a range past the end gives what there is");
    for from in [100, 150] {
        let past = range(store, name, from..200).await;
        assert!(past.is_err(), "a range that begins at {from} of 100 bytes is an error, not empty");
    }
    let several = store.get_ranges(&path(name), &[0..3, 50..60, 97..100]).await.expect("read several ranges");
    assert_eq!(several, [content.slice(0..3), content.slice(50..60), content.slice(97..100)]);
}

async fn big_objects_in_parts(store: &dyn ObjectStore) {
    let (name, content) = ("runs/ef/big.run", pattern(BIG));
    let mut upload = store.put_multipart(&path(name)).await.expect("begin an upload");
    let parts: Vec<Bytes> = (0..BIG).step_by(PART).map(|start| content.slice(start..BIG.min(start + PART))).collect();
    for pair in parts.chunks(2) {
        let puts: Vec<_> = pair.iter().map(|part| upload.put_part(part.clone().into())).collect();
        for result in join_all(puts).await {
            result.expect("put a part");
        }
    }
    assert!(matches!(store.head(&path(name)).await, Err(Error::NotFound { .. })), "not there before it is complete");
    upload.complete().await.expect("complete an upload");
    assert_eq!(store.head(&path(name)).await.expect("head").size, BIG as u64);
    assert!(get(store, name).await == content, "an object in parts comes back as it was");
    let mut body = store.get(&path(name)).await.expect("get").into_stream();
    let mut offset = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.expect("read on");
        assert!(content[offset..offset + chunk.len()] == chunk, "a stream gives the bytes in order");
        offset += chunk.len();
    }
    assert_eq!(offset, BIG, "a stream ends at the end, not before");
    let across = store.get_range(&path(name), (PART as u64 - 3)..(PART as u64 + 3)).await.expect("read across parts");
    assert_eq!(across, content.slice(PART - 3..PART + 3));
}

async fn small_objects_in_parts(store: &dyn ObjectStore) {
    let mut upload = store.put_multipart(&path("runs/ef/small.run")).await.expect("begin an upload");
    upload.put_part("small".into()).await.expect("put a part");
    upload.complete().await.expect("complete an upload");
    assert_eq!(get(store, "runs/ef/small.run").await, "small", "one small part makes an object");
}

async fn aborted_uploads_leave_nothing(store: &dyn ObjectStore) {
    let mut upload = store.put_multipart(&path("aborted/a.run")).await.expect("begin an upload");
    upload.put_part(pattern(PART).into()).await.expect("put a part");
    upload.abort().await.expect("abort an upload");
    assert!(matches!(store.head(&path("aborted/a.run")).await, Err(Error::NotFound { .. })));
    assert_eq!(names(store, "aborted").await, BTreeSet::new(), "nothing is listed of an aborted upload");
}

async fn listings(store: &dyn ObjectStore) {
    let expected: BTreeSet<String> = (0..25).map(|index| format!("lists/ab/{index}/0")).collect();
    for name in &expected {
        put(store, name, name.clone()).await;
    }
    put(store, "lists/abc/0", "a neighbour").await;
    put(store, "lists/top", "beside").await;
    assert_eq!(names(store, "lists/ab").await, expected, "a prefix is whole segments, and its listing complete");
    assert_eq!(names(store, "lists/a").await, BTreeSet::new(), "a part of a segment is no prefix");
    assert_eq!(names(store, "lists").await.len(), 27);
    assert_eq!(names(store, "nothing/here").await, BTreeSet::new(), "a listing of nothing is empty, not an error");
    let level = store.list_with_delimiter(Some(&path("lists"))).await.expect("list one level");
    let prefixes: BTreeSet<String> = level.common_prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["lists/ab", "lists/abc"].map(str::to_owned).into());
    let objects: Vec<(String, u64)> = level.objects.iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
    assert_eq!(objects, [("lists/top".to_owned(), 6)]);
    let deep = store.list_with_delimiter(Some(&path("lists/ab"))).await.expect("list one level");
    assert_eq!((deep.common_prefixes.len(), deep.objects.len()), (25, 0));
}

async fn missing_objects(store: &dyn ObjectStore) {
    let missing = path("runs/00/missing.run");
    let whole = store.get(&missing).await.map(|_| ());
    assert!(matches!(whole, Err(Error::NotFound { .. })), "get of a missing object: {whole:?}");
    let part = store.get_range(&missing, 0..1).await;
    assert!(matches!(part, Err(Error::NotFound { .. })), "a range of a missing object: {part:?}");
    let head = store.head(&missing).await;
    assert!(matches!(head, Err(Error::NotFound { .. })), "head of a missing object: {head:?}");
}

async fn deletions(store: &dyn ObjectStore) {
    let name = "receipts/bkp_01ARZ3NDEKTSV4RRFFQ69G5FAV/9/0";
    put(store, name, "x").await;
    store.delete(&path(name)).await.expect("delete an object");
    let gone = store.head(&path(name)).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "a deleted object is gone: {gone:?}");
    assert!(!names(store, "receipts").await.contains(name), "a deleted object is not listed");
    let again = store.delete(&path(name)).await;
    assert!(matches!(again, Ok(()) | Err(Error::NotFound { .. })), "delete of a missing object: {again:?}");
    create(store, name, &Bytes::from_static(b"y")).await.expect("create what was deleted");
    let all: Vec<_> = names(store, "").await.into_iter().map(|name| Ok(path(&name))).collect();
    let count = all.len();
    let deleted = store.delete_stream(futures::stream::iter(all).boxed()).try_collect::<Vec<_>>().await;
    assert_eq!(deleted.expect("delete many objects").len(), count);
    assert_eq!(names(store, "").await, BTreeSet::new(), "nothing is left");
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::faulty_store::{Fault, FaultyStore, Operation};

    #[tokio::test]
    async fn memory_conforms() {
        conforms(Arc::new(InMemory::new())).await;
    }

    async fn fails_with(operation: Operation, fault: Fault, says: &str) {
        let store = FaultyStore::new(Arc::new(InMemory::new()));
        store.fail_from(operation, 1, fault);
        let failure = tokio::spawn(async move { conforms(Arc::new(store)).await }).await.unwrap_err().into_panic();
        let text = failure.downcast_ref::<String>().map_or_else(String::new, Clone::clone);
        assert!(text.contains(says), "{text}");
    }

    #[tokio::test]
    async fn stores_that_lie_do_not() {
        fails_with(Operation::Put, Fault::ConditionIgnored, "create of what exists").await;
        fails_with(Operation::Get, Fault::Truncated { keep: 3 }, "as long as its size says").await;
        fails_with(Operation::Get, Fault::Flipped { at: 1 }, "firebackup.json").await;
        fails_with(Operation::Head, Fault::NotFound, "head firebackup.json").await;
    }
}
