//! Where a range is cut: by PartitionQuery, or by probing where the server lacks it.

use std::collections::BTreeSet;

use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::path::DocumentPath;
use firebackup_model::port::DocumentSource;
use firebackup_model::range::{PathRange, RangeStart};
use firebackup_model::timestamp::Timestamp;
use gcloud_sdk::google::firestore::v1::list_collection_ids_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::{ListCollectionIdsRequest, ListCollectionIdsResponse, PartitionQueryResponse};
use tonic::Streaming;

use crate::channel;
use crate::firestore::Firestore;
use crate::proto::{RunQueryResponse, to_proto};
use crate::query;
use crate::status::Operation;

const LIST: Operation = Operation::reading("list root collections");
const PARTITION: Operation = Operation::reading("ask for cut points");
const PROBE: Operation = Operation::reading("probe for cut points");

/// Up to `wanted` paths inside `range` that cut it into parts of about equal size.
pub(crate) async fn points(
    firestore: &Firestore,
    range: &PathRange,
    wanted: usize,
    at: Timestamp,
) -> Result<Vec<DocumentPath>, PortError> {
    if wanted == 0 || range.is_empty() {
        return Ok(Vec::new());
    }
    let total = countable(firestore.count(range, at).await)?;
    if total.is_some_and(|total| total < firestore.split_threshold) {
        return Ok(Vec::new());
    }
    match (partitions(firestore, range, wanted, at, total).await, total) {
        (Err(error), Some(total)) if error.kind == ErrorKind::Unimplemented => {
            probes(firestore, range, wanted, at, total).await
        }
        (Err(error), None) if error.kind == ErrorKind::Unimplemented => Ok(Vec::new()),
        (points, _) => points,
    }
}

/// A count, or nothing where the server does not count kindless queries or takes too long over it: it only helps.
fn countable(count: Result<u64, PortError>) -> Result<Option<u64>, PortError> {
    match count {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind.is_refusal_of_query() || error.kind == ErrorKind::DeadlineExceeded => Ok(None),
        Err(error) => Err(error),
    }
}

async fn partitions(
    firestore: &Firestore,
    range: &PathRange,
    wanted: usize,
    at: Timestamp,
    total: Option<u64>,
) -> Result<Vec<DocumentPath>, PortError> {
    let mut points = BTreeSet::new();
    let groups = groups(firestore, range, at).await?;
    if let Some(group) = groups.first() {
        // a server without PartitionQuery says so before the groups are counted in vain
        partition_group(firestore, &group.id, 1, at).await?;
    }
    for group in groups {
        let share = share(firestore, range, &group, wanted, at, total).await?;
        if share > 0 {
            points.extend(partition_group(firestore, &group.id, share, at).await?);
        }
    }
    points.retain(|point| is_inside(range, point));
    Ok(thinned(points.into_iter().collect(), wanted))
}

/// A collection group whose documents can serve as cut points.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    id: String,
    /// The collection below which its documents lie for the most part.
    within: PathRange,
}

/// The root collections that reach into the range, and the collections on the way to its start.
async fn groups(firestore: &Firestore, range: &PathRange, at: Timestamp) -> Result<Vec<Group>, PortError> {
    if let Some(nested) = nested_collection(range) {
        return Ok(vec![nested]);
    }
    let mut groups = Vec::new();
    for id in root_collections(firestore, at).await? {
        let Ok(collection) = PathRange::collection(&id) else { continue };
        if let Some(within) = intersection(range, &collection) {
            groups.push(Group { id, within });
        }
    }
    Ok(groups)
}

/// The collection of a range that lies in one collection below a document.
fn nested_collection(range: &PathRange) -> Option<Group> {
    let (RangeStart::At(start) | RangeStart::After(start)) = &range.start else { return None };
    let collection = start.collection();
    let is_nested = collection.contains('/');
    let whole = PathRange::collection(collection).ok()?;
    let is_within = range.end.as_ref().is_some_and(|end| whole.end.as_ref().is_some_and(|limit| end <= limit));
    (is_nested && is_within).then(|| Group { id: start.collection_group().to_owned(), within: range.clone() })
}

async fn root_collections(firestore: &Firestore, at: Timestamp) -> Result<Vec<String>, PortError> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCollectionIdsRequest {
            parent: firestore.database.documents_root(),
            page_size: 1000,
            page_token,
            consistency_selector: Some(ConsistencySelector::ReadTime(to_proto(at))),
            ..ListCollectionIdsRequest::default()
        };
        let page: Result<ListCollectionIdsResponse, _> =
            firestore.rpc.unary("/google.firestore.v1.Firestore/ListCollectionIds", request).await;
        let page = page.map_err(|status| LIST.failed(status))?;
        ids.extend(page.collection_ids);
        if page.next_page_token.is_empty() {
            return Ok(ids);
        }
        page_token = page.next_page_token;
    }
}

/// How many of the wanted points a group should give, by its part of the documents: PartitionQuery knows only its own
/// group, and small groups would otherwise crowd out the points of the large one.
async fn share(
    firestore: &Firestore,
    range: &PathRange,
    group: &Group,
    wanted: usize,
    at: Timestamp,
    total: Option<u64>,
) -> Result<usize, PortError> {
    let Some(total) = total.filter(|_| group.within != *range) else { return Ok(wanted) };
    let count = countable(firestore.count(&group.within, at).await)?;
    Ok(count.map_or(wanted, |count| proportion(count, total, wanted)))
}

/// `wanted * count / total`, rounded.
fn proportion(count: u64, total: u64, wanted: usize) -> usize {
    let share = (u128::from(count) * wanted as u128 + u128::from(total) / 2) / u128::from(total.max(1));
    usize::try_from(share).unwrap_or(wanted).min(wanted)
}

async fn partition_group(
    firestore: &Firestore,
    group: &str,
    wanted: usize,
    at: Timestamp,
) -> Result<Vec<DocumentPath>, PortError> {
    let mut request = query::partition(&firestore.database, group, wanted, at);
    let mut points = Vec::new();
    loop {
        let page: Result<PartitionQueryResponse, _> =
            firestore.rpc.unary("/google.firestore.v1.Firestore/PartitionQuery", request.clone()).await;
        let page = page.map_err(|status| PARTITION.failed(status))?;
        points.extend(page.partitions.iter().filter_map(|cursor| query::cursor_path(&firestore.database, cursor)));
        if page.next_page_token.is_empty() {
            return Ok(points);
        }
        request.page_token = page.next_page_token;
    }
}

/// Walks the range in equal steps, names only: each probe starts where the one before ended.
async fn probes(
    firestore: &Firestore,
    range: &PathRange,
    wanted: usize,
    at: Timestamp,
    total: u64,
) -> Result<Vec<DocumentPath>, PortError> {
    let parts = wanted as u64 + 1;
    let mut points: Vec<DocumentPath> = Vec::with_capacity(wanted);
    let (mut rest, mut done) = (range.clone(), 0);
    for part in 1..parts {
        // exact thirds of a count that three does not divide: steps differ by one at most
        let target = (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
        let step = target - done;
        if step == 0 {
            continue;
        }
        let Some(point) = probe(firestore, &rest, step, at).await? else { break };
        rest = PathRange { start: RangeStart::At(point.clone()), end: rest.end };
        done = target;
        points.push(point);
    }
    Ok(points)
}

/// The document behind the first `offset` of the range.
async fn probe(
    firestore: &Firestore,
    range: &PathRange,
    offset: u64,
    at: Timestamp,
) -> Result<Option<DocumentPath>, PortError> {
    let offset = i32::try_from(offset).unwrap_or(i32::MAX);
    let request = query::run(&firestore.database, query::name_at(&firestore.database, range, offset), at);
    let responses = firestore.rpc.streaming("/google.firestore.v1.Firestore/RunQuery", request).await;
    let mut responses: Streaming<RunQueryResponse> = responses.map_err(|status| PROBE.failed(status))?;
    while let Some(response) = channel::next(&mut responses).await.map_err(|status| PROBE.failed(status))? {
        let Some(document) = response.document else { continue };
        let head = firebackup_model::document::head(&document);
        let head = head.map_err(|source| PROBE.corrupt("the server sent no document").with_source(source))?;
        let path = firestore.database.path_of(head.name);
        return path.map(Some).map_err(|source| PROBE.corrupt("the server sent a foreign name").with_source(source));
    }
    Ok(None)
}

/// Whether a cut at the point leaves two parts.
fn is_inside(range: &PathRange, point: &DocumentPath) -> bool {
    range.covers(point) && !matches!(&range.start, RangeStart::At(start) if start == point)
}

/// The part that two ranges share; nothing when they share none.
fn intersection(left: &PathRange, right: &PathRange) -> Option<PathRange> {
    let outside = left.without(right);
    let shared = outside
        .iter()
        .fold(vec![left.clone()], |parts, hole| parts.iter().flat_map(|part| part.without(hole)).collect());
    shared.into_iter().next()
}

/// At most `wanted` of the sorted points, evenly chosen.
fn thinned(points: Vec<DocumentPath>, wanted: usize) -> Vec<DocumentPath> {
    if points.len() <= wanted {
        return points;
    }
    let length = points.len();
    let chosen: BTreeSet<usize> = (1..=wanted).map(|n| n * (length + 1) / (wanted + 1) - 1).collect();
    points.into_iter().enumerate().filter(|(index, _)| chosen.contains(index)).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    #[test]
    fn groups_share_points_by_size() {
        assert_eq!(proportion(1_000_000, 1_010_000, 63), 62);
        assert_eq!(proportion(1_000, 1_010_000, 63), 0);
        assert_eq!(proportion(500, 1000, 3), 2);
        assert_eq!(proportion(u64::MAX, u64::MAX, 7), 7);
        assert_eq!(proportion(5, 0, 7), 7);
    }

    #[test]
    fn a_range_inside_a_nested_collection_is_cut_by_its_own_group() {
        let orders = PathRange::collection("users/a/orders").unwrap();
        assert_eq!(nested_collection(&orders).unwrap().id, "orders");
        assert_eq!(nested_collection(&orders.behind(path("users/a/orders/5"))).unwrap().id, "orders");
        assert_eq!(nested_collection(&PathRange::collection("users").unwrap()), None);
        assert_eq!(nested_collection(&PathRange::everything()), None);
        let open = PathRange { end: None, ..orders };
        assert_eq!(nested_collection(&open), None);
    }

    #[test]
    fn ranges_intersect() {
        let users = PathRange::collection("users").unwrap();
        assert_eq!(intersection(&PathRange::everything(), &users), Some(users.clone()));
        assert_eq!(intersection(&users, &PathRange::collection("orders").unwrap()), None);
        let tail = users.behind(path("users/m"));
        assert_eq!(intersection(&tail, &users), Some(tail));
    }

    #[test]
    fn a_point_at_the_start_cuts_nothing() {
        let range = PathRange { start: RangeStart::At(path("a/b")), end: Some(path("a/d")) };
        assert!(
            !is_inside(&range, &path("a/b")) && is_inside(&range, &path("a/c")) && !is_inside(&range, &path("a/d"))
        );
    }

    #[test]
    fn a_count_only_helps() {
        let error = |kind| Err(PortError::new(kind, "count", ""));
        assert_eq!(countable(Ok(4)).unwrap(), Some(4));
        assert_eq!(countable(error(ErrorKind::InvalidArgument)).unwrap(), None);
        assert!(countable(error(ErrorKind::ReadTimeTooOld)).is_err());
        assert!(countable(error(ErrorKind::PermissionDenied)).is_err());
    }

    proptest! {
        #[test]
        fn thinning_keeps_order_and_spreads(length in 0usize..200, wanted in 1usize..50) {
            let points: Vec<_> = (0..length).map(|n| path(&format!("a/{n:03}"))).collect();
            let thinned = thinned(points.clone(), wanted);
            prop_assert_eq!(thinned.len(), length.min(wanted));
            prop_assert!(thinned.is_sorted());
            prop_assert!(thinned.iter().all(|point| points.contains(point)));
        }
    }
}
