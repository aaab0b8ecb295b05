//! Queries: the one kindless query over all documents, cut by two cursors, and the same over one collection group.

use firebackup_model::database::DatabaseName;
use firebackup_model::path::DocumentPath;
use firebackup_model::range::{PathRange, RangeStart};
use firebackup_model::timestamp::Timestamp;
use gcloud_sdk::google::firestore::v1::structured_aggregation_query::aggregation::{Count, Operator};
use gcloud_sdk::google::firestore::v1::structured_aggregation_query::{Aggregation, QueryType as AggregatedQuery};
use gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order, Projection,
};
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{
    Cursor, PartitionQueryRequest, RunAggregationQueryRequest, RunQueryRequest, StructuredAggregationQuery,
    StructuredQuery, Value, partition_query_request, run_aggregation_query_request, run_query_request,
};

use crate::proto::to_proto;

/// The key under which an aggregation returns its count.
pub(crate) const COUNT_ALIAS: &str = "count";

/// Every document of the range, whatever its collection, in path order.
pub(crate) fn documents(database: &DatabaseName, range: &PathRange) -> StructuredQuery {
    group(database, "", range)
}

/// As [`documents`], those of one collection group.
pub(crate) fn group(database: &DatabaseName, collection_group: &str, range: &PathRange) -> StructuredQuery {
    StructuredQuery {
        start_at: match &range.start {
            RangeStart::Beginning => None,
            RangeStart::At(path) => Some(cursor(database, path, true)),
            RangeStart::After(path) => Some(cursor(database, path, false)),
        },
        end_at: range.end.as_ref().map(|path| cursor(database, path, true)),
        ..all_descendants(collection_group)
    }
}

/// As [`documents`], the names alone.
pub(crate) fn names(database: &DatabaseName, range: &PathRange) -> StructuredQuery {
    let name = FieldReference { field_path: "__name__".to_owned() };
    StructuredQuery { select: Some(Projection { fields: vec![name] }), ..documents(database, range) }
}

/// As [`names`]: one document behind the first `offset`.
pub(crate) fn name_at(database: &DatabaseName, range: &PathRange, offset: i32) -> StructuredQuery {
    StructuredQuery { offset, limit: Some(1), ..names(database, range) }
}

/// Every document of a collection group in path order; of all groups when it has no name.
fn all_descendants(collection_group: &str) -> StructuredQuery {
    StructuredQuery {
        from: vec![CollectionSelector { collection_id: collection_group.to_owned(), all_descendants: true }],
        order_by: vec![Order {
            field: Some(FieldReference { field_path: "__name__".to_owned() }),
            direction: Direction::Ascending as i32,
        }],
        ..StructuredQuery::default()
    }
}

/// A cursor just before or just behind a document's place, whether the document exists or not.
fn cursor(database: &DatabaseName, path: &DocumentPath, before: bool) -> Cursor {
    let name = database.document_name(path.as_str());
    Cursor { values: vec![Value { value_type: Some(ValueType::ReferenceValue(name)) }], before }
}

pub(crate) fn run(database: &DatabaseName, query: StructuredQuery, at: Timestamp) -> RunQueryRequest {
    RunQueryRequest {
        parent: database.documents_root(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        consistency_selector: Some(run_query_request::ConsistencySelector::ReadTime(to_proto(at))),
        ..RunQueryRequest::default()
    }
}

/// Counts all that a query finds.
pub(crate) fn count(database: &DatabaseName, query: StructuredQuery, at: Timestamp) -> RunAggregationQueryRequest {
    counted(database, query, at, None)
}

/// The documents directly in a collection at the root, up to so many.
pub(crate) fn count_collection(
    database: &DatabaseName,
    id: &str,
    at: Timestamp,
    up_to: i64,
) -> RunAggregationQueryRequest {
    let from = vec![CollectionSelector { collection_id: id.to_owned(), all_descendants: false }];
    counted(database, StructuredQuery { from, ..StructuredQuery::default() }, at, Some(up_to))
}

fn counted(
    database: &DatabaseName,
    query: StructuredQuery,
    at: Timestamp,
    up_to: Option<i64>,
) -> RunAggregationQueryRequest {
    let count = Aggregation { alias: COUNT_ALIAS.to_owned(), operator: Some(Operator::Count(Count { up_to })) };
    let query = StructuredAggregationQuery {
        aggregations: vec![count],
        query_type: Some(AggregatedQuery::StructuredQuery(query)),
    };
    RunAggregationQueryRequest {
        parent: database.documents_root(),
        query_type: Some(run_aggregation_query_request::QueryType::StructuredAggregationQuery(query)),
        consistency_selector: Some(run_aggregation_query_request::ConsistencySelector::ReadTime(to_proto(at))),
        ..RunAggregationQueryRequest::default()
    }
}

pub(crate) fn partition(
    database: &DatabaseName,
    collection_group: &str,
    points: usize,
    at: Timestamp,
) -> PartitionQueryRequest {
    PartitionQueryRequest {
        parent: database.documents_root(),
        partition_count: i64::try_from(points).unwrap_or(i64::MAX),
        query_type: Some(partition_query_request::QueryType::StructuredQuery(all_descendants(collection_group))),
        consistency_selector: Some(partition_query_request::ConsistencySelector::ReadTime(to_proto(at))),
        ..PartitionQueryRequest::default()
    }
}

/// The document that a cursor of a PartitionQuery names.
pub(crate) fn cursor_path(database: &DatabaseName, cursor: &Cursor) -> Option<DocumentPath> {
    match cursor.values.first()?.value_type.as_ref()? {
        ValueType::ReferenceValue(name) => database.path_of(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> DatabaseName {
        DatabaseName::new("p", "(default)")
    }

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    fn check(range: &PathRange, start: Option<(&str, bool)>, end: Option<(&str, bool)>) {
        let query = documents(&database(), range);
        let shown = |cursor: &Option<Cursor>| {
            cursor.as_ref().map(|cursor| (cursor_path(&database(), cursor).unwrap().to_string(), cursor.before))
        };
        let owned = |expected: Option<(&str, bool)>| expected.map(|(path, before)| (path.to_owned(), before));
        assert_eq!(shown(&query.start_at), owned(start), "{range}");
        assert_eq!(shown(&query.end_at), owned(end), "{range}");
    }

    #[test]
    fn ranges_become_cursors() {
        check(&PathRange::everything(), None, None);
        let range = PathRange { start: RangeStart::At(path("a/b")), end: Some(path("c/d")) };
        check(&range, Some(("a/b", true)), Some(("c/d", true)));
        check(&range.behind(path("b/x")), Some(("b/x", false)), Some(("c/d", true)));
        let users = PathRange::collection("users").unwrap();
        check(
            &users,
            Some(("users/__id-9223372036854775808__", true)),
            Some(("users\0/__id-9223372036854775808__", true)),
        );
    }

    #[test]
    fn the_query_names_no_collection_and_is_ordered_by_name() {
        let query = documents(&database(), &PathRange::everything());
        assert_eq!(query.from, [CollectionSelector { collection_id: String::new(), all_descendants: true }]);
        assert_eq!(query.order_by[0].field.as_ref().unwrap().field_path, "__name__");
        assert_eq!(query.order_by[0].direction, Direction::Ascending as i32);
        let request = run(&database(), query, Timestamp::new(1, 2));
        assert_eq!(request.parent, "projects/p/databases/(default)/documents");
        assert_eq!(
            request.consistency_selector,
            Some(run_query_request::ConsistencySelector::ReadTime(to_proto(Timestamp::new(1, 2))))
        );
    }

    #[test]
    fn a_group_is_the_same_query_with_a_name() {
        let range = PathRange { start: RangeStart::After(path("a/b")), end: Some(path("c/d/orders/1")) };
        let everything = documents(&database(), &range);
        let orders = group(&database(), "orders", &range);
        assert_eq!(orders.from, [CollectionSelector { collection_id: "orders".to_owned(), all_descendants: true }]);
        assert_eq!(StructuredQuery { from: everything.from.clone(), ..orders }, everything);
    }

    #[test]
    fn a_cursor_into_another_database_is_no_path() {
        let elsewhere = cursor(&DatabaseName::new("q", "d"), &path("a/b"), true);
        assert_eq!(cursor_path(&database(), &elsewhere), None);
        assert_eq!(cursor_path(&database(), &Cursor::default()), None);
    }
}
