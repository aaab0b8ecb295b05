//! Collection groups that are listened to, counted and streamed. What the emulator does here is measured, not wished for:
//! it begins a group anew with each of its changes, whatever it was asked to resume from.

use super::*;

use firebackup_model::port::{Change, ChangeSource, ChangeStream, ListenFrom};

const BOUND: Duration = Duration::from_secs(30);

async fn write(firestore: &Firestore, paths: &[&str]) {
    let documents = paths.iter().map(|to| put(firestore, to, 1, Precondition::None));
    write_batch(firestore, documents.collect()).await;
}

async fn delete(firestore: &Firestore, from: &str) {
    let delete = Write { path: path(from), document: None, precondition: Precondition::None };
    write_batch(firestore, vec![delete]).await;
}

async fn listen(firestore: &Firestore, groups: &[&str], from: ListenFrom) -> ChangeStream {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    firestore.listen(&groups, from).await.expect("the emulator answers")
}

/// What is said up to the next point, without signs of life, and the point.
async fn until_point(changes: &mut ChangeStream) -> (Vec<Change>, Timestamp, Bytes) {
    let mut said = Vec::new();
    loop {
        let change = tokio::time::timeout(BOUND, changes.next()).await.expect("a change in time");
        match change.expect("no end").expect("no error") {
            Change::Alive => {}
            Change::Point { read_time, token } => return (said, read_time, token.expect("a token")),
            change => said.push(change),
        }
    }
}

/// A change in a word or two: the group that was reset, or the path of what was put.
fn shown_change(firestore: &Firestore, change: &Change) -> String {
    match change {
        Change::Put(document) => format!("put {}", path_of(firestore, document)),
        Change::Reset { group } => format!("reset {group}"),
        other => format!("{other:?}"),
    }
}

/// Checks what is said up to the next point, and gives its time and token.
async fn check(firestore: &Firestore, changes: &mut ChangeStream, expected: &[&str]) -> (Timestamp, Bytes) {
    let (said, read_time, token) = until_point(changes).await;
    let said: Vec<_> = said.iter().map(|change| shown_change(firestore, change)).collect();
    assert_eq!(said, expected);
    (read_time, token)
}

#[tokio::test]
async fn the_emulator_begins_a_group_anew_whatever_it_resumes_from() {
    let firestore = database("listened", "(default)").await;
    write(&firestore, &["users/a", "users/a/orders/1", "phantoms/ghost/orders/__id7__", "other/a"]).await;
    let at = firestore.snapshot_time().await.unwrap();
    let groups = ["none", "orders", "users"];
    let mut changes = listen(&firestore, &groups, ListenFrom::ReadTime(at)).await;
    let whole = [
        "reset none",
        "reset orders",
        "put phantoms/ghost/orders/__id7__",
        "put users/a/orders/1",
        "reset users",
        "put users/a",
    ];
    let (first, token) = check(&firestore, &mut changes, &whole).await;
    assert!(first >= at, "{first} {at}");
    let mut resumed = listen(&firestore, &groups, ListenFrom::Token(token)).await;
    let (again, _) = check(&firestore, &mut resumed, &whole).await;
    assert!(again >= first, "{again} {first}");
}

#[tokio::test]
async fn the_emulator_answers_each_change_with_the_whole_group() {
    let firestore = database("changed", "(default)").await;
    write(&firestore, &["users/a", "users/b", "orders/1"]).await;
    let at = firestore.snapshot_time().await.unwrap();
    let mut changes = listen(&firestore, &["orders", "users"], ListenFrom::ReadTime(at)).await;
    let whole = ["reset orders", "put orders/1", "reset users", "put users/a", "put users/b"];
    let (first, _) = check(&firestore, &mut changes, &whole).await;
    write(&firestore, &["other/a", "users/a/orders/2"]).await;
    let expected = ["reset orders", "put orders/1", "put users/a/orders/2"];
    let (second, _) = check(&firestore, &mut changes, &expected).await;
    delete(&firestore, "users/a").await;
    let (third, _) = check(&firestore, &mut changes, &["reset users", "put users/b"]).await;
    assert!(first < second && second < third, "{first} {second} {third}");
    assert!(firestore.snapshot_time().await.unwrap() >= third);
}

#[tokio::test]
async fn what_is_put_is_what_is_read() {
    let firestore = database("put", "(default)").await;
    let documents = corpus(&name(&firestore));
    let group = documents[0].0.collection_group().to_owned();
    write_all(&firestore, documents).await;
    let at = firestore.snapshot_time().await.unwrap();
    let mut changes = listen(&firestore, &[&group], ListenFrom::ReadTime(at)).await;
    let (said, ..) = until_point(&mut changes).await;
    let put: BTreeMap<_, _> = said
        .iter()
        .filter_map(|change| match change {
            Change::Put(document) => Some((path_of(&firestore, document), document.clone())),
            _ => None,
        })
        .collect();
    let read: Vec<RawDocument> = firestore.stream_group(&group, at).await.unwrap().try_collect().await.unwrap();
    assert!(!read.is_empty());
    let paths = paths_of(&firestore, &read);
    assert_eq!(put, paths.into_iter().zip(read).collect());
}

#[tokio::test]
async fn a_group_is_counted_and_streamed_wherever_its_documents_lie() {
    let firestore = database("groups", "(default)").await;
    let mut documents: Vec<_> = corpus(&name(&firestore)).into_iter().filter(|(path, _)| is_small(path)).collect();
    let more = ["orders/__id10__", "orders/__id7__", "orders/__id-7__", "orders/a", "ordersx/a", "phantoms/g/orders/1"];
    documents.extend(more.map(|to| (path(to), numbered(&name(&firestore), to, 1))));
    documents.extend(
        ["users/u/orders/__id9__", "users/u/orders/1/orders/2"]
            .map(|to| (path(to), numbered(&name(&firestore), to, 1))),
    );
    write_all(&firestore, documents.clone()).await;
    let at = firestore.snapshot_time().await.unwrap();
    write(&firestore, &["orders/later"]).await;
    let mut paths: Vec<_> = documents.into_iter().map(|(path, _)| path).collect();
    paths.sort();
    paths.dedup();
    let groups: BTreeSet<_> = paths.iter().map(|path| path.collection_group().to_owned()).collect();
    assert!(groups.len() > 4, "{groups:?}");
    for group in groups.iter().map(String::as_str).chain(["nothing"]) {
        let expected: Vec<_> = paths.iter().filter(|path| path.collection_group() == group).cloned().collect();
        let read: Vec<_> = firestore.stream_group(group, at).await.unwrap().try_collect().await.unwrap();
        assert_eq!(paths_of(&firestore, &read), expected, "{group}");
        check_counts(&firestore, group, &expected, at).await;
    }
}

/// Counts a group in all, and in ranges that other groups' documents and its own bound.
async fn check_counts(firestore: &Firestore, group: &str, paths: &[DocumentPath], at: Timestamp) {
    let mut ranges = vec![PathRange::everything(), PathRange::collection("orders").unwrap()];
    ranges.extend(PathRange::everything().cut(&[path("orders/__id8__"), path("users/u")]));
    if let Some(middle) = paths.get(paths.len() / 2) {
        ranges.extend(PathRange::everything().cut(std::slice::from_ref(middle)));
        ranges.push(PathRange::everything().behind(middle.clone()));
    }
    for range in ranges {
        let expected = paths.iter().filter(|path| range.covers(path)).count() as u64;
        assert_eq!(firestore.count_group(group, &range, at).await.unwrap(), expected, "{group} {range}");
    }
}

#[tokio::test]
async fn a_group_at_a_time_that_cannot_be_read_is_an_error() {
    let firestore = database("groups-past", "(default)").await;
    let past = Timestamp::new(1000, 0);
    let error = firestore.count_group("users", &PathRange::everything(), past).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ReadTimeTooOld);
    let streamed = match firestore.stream_group("users", past).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(streamed.unwrap_err().kind, ErrorKind::ReadTimeTooOld);
}
