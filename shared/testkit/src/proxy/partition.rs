//! `PartitionQuery`, answered from the names that a keys-only query gives.

use gcloud_sdk::google::firestore::v1::structured_query::{Direction, FieldReference, Projection};
use gcloud_sdk::google::firestore::v1::{
    Cursor, PartitionQueryRequest, PartitionQueryResponse, RunQueryRequest, StructuredQuery, Value,
    partition_query_request, run_query_request, value::ValueType,
};
use tonic::Status;

const NAME: &str = "__name__";

/// The query for the names of all documents that a request is about; refuses what production does.
pub(crate) fn keys_query(request: &PartitionQueryRequest) -> Result<RunQueryRequest, Status> {
    let Some(partition_query_request::QueryType::StructuredQuery(query)) = &request.query_type else {
        return Err(Status::invalid_argument("a query is required"));
    };
    check(query)?;
    if request.partition_count <= 0 {
        return Err(Status::invalid_argument("partition_count must be positive"));
    }
    let name = FieldReference { field_path: NAME.to_owned() };
    let keys = StructuredQuery { select: Some(Projection { fields: vec![name] }), ..query.clone() };
    let read_time = request.consistency_selector.map(|partition_query_request::ConsistencySelector::ReadTime(time)| {
        run_query_request::ConsistencySelector::ReadTime(time)
    });
    Ok(RunQueryRequest {
        parent: request.parent.clone(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(keys)),
        consistency_selector: read_time,
        ..RunQueryRequest::default()
    })
}

fn check(query: &StructuredQuery) -> Result<(), Status> {
    let of_a_group = matches!(&query.from[..], [from] if from.all_descendants && !from.collection_id.is_empty());
    if !of_a_group {
        return Err(Status::invalid_argument("the query must specify a collection with all descendants"));
    }
    let by_name = matches!(
        &query.order_by[..],
        [order] if order.direction != Direction::Descending as i32
            && order.field.as_ref().is_some_and(|field| field.field_path == NAME)
    );
    if !by_name {
        return Err(Status::invalid_argument("the query must be ordered by __name__ ascending, and by nothing else"));
    }
    let is_plain = query.r#where.is_none()
        && query.start_at.is_none()
        && query.end_at.is_none()
        && query.limit.is_none()
        && query.offset == 0;
    if is_plain {
        Ok(())
    } else {
        Err(Status::invalid_argument("filters, limits, offsets and cursors are not supported"))
    }
}

/// The page of cursors that is asked for: names that cut `names`, which are sorted, into about equal parts.
pub(crate) fn answer(request: &PartitionQueryRequest, names: &[String]) -> Result<PartitionQueryResponse, Status> {
    let wanted = usize::try_from(request.partition_count).unwrap_or(0);
    let cuts = evenly_spaced(names.len(), wanted);
    let from = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Status::invalid_argument("not a page token of this server"))?,
    };
    let page = usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
    let partitions: Vec<Cursor> = cuts.iter().skip(from).take(page).map(|cut| cursor(&names[*cut])).collect();
    let next = from + partitions.len();
    let next_page_token = if next < cuts.len() { next.to_string() } else { String::new() };
    Ok(PartitionQueryResponse { partitions, next_page_token })
}

/// Up to `wanted` indices between 1 and `length - 1`, all different.
fn evenly_spaced(length: usize, wanted: usize) -> Vec<usize> {
    let parts = wanted.saturating_add(1).min(length);
    (1..parts).map(|part| part * length / parts).collect()
}

fn cursor(name: &str) -> Cursor {
    let value = Value { value_type: Some(ValueType::ReferenceValue(name.to_owned())) };
    Cursor { values: vec![value], before: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_inside_and_differ() {
        assert_eq!(evenly_spaced(100, 3), [25, 50, 75]);
        assert_eq!(evenly_spaced(3, 10), [1, 2]);
        assert!(evenly_spaced(1, 4).is_empty());
        assert!(evenly_spaced(0, 4).is_empty());
    }

    #[test]
    fn pages_bring_all_cursors_once() {
        let names: Vec<String> = (0..50).map(|n| format!("projects/p/databases/d/documents/a/{n:02}")).collect();
        let mut request = PartitionQueryRequest { partition_count: 7, page_size: 3, ..Default::default() };
        let mut seen = Vec::new();
        loop {
            let page = answer(&request, &names).unwrap();
            assert!(page.partitions.len() <= 3);
            seen.extend(page.partitions);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let whole = PartitionQueryRequest { page_size: 0, page_token: String::new(), ..request };
        assert_eq!(seen, answer(&whole, &names).unwrap().partitions);
        assert_eq!(seen.len(), 7);
    }
}
