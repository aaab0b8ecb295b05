//! The table of records on DynamoDB.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnValue, TransactWriteItem,
};
use firebackup_model::port::{
    Clock, Item, ItemBody, ItemKey, ItemPage, ItemQuery, ItemStore, ItemWrite, MAX_PAGE_ITEMS, MAX_TRANSACTION_WRITES,
    NewItem, SortRange,
};
use firebackup_model::{ErrorKind, PortError, Timestamp};

use crate::config::AwsClients;
use crate::error::{kind_of_code, port_error};
use crate::item_attributes::{
    Attributes, EXPIRES, INDEX, INDEX_PARTITION, INDEX_SORT, PARTITION, SORT, VERSION, counter_name, counters_of,
    expiry_second, is_expired, item_attributes, item_of, key_attributes, number,
};
use crate::item_cursor;

const GET: &str = "read an item";
const QUERY: &str = "read a page of items";
const WRITE: &str = "write items";
const ADD: &str = "add to counters";

/// There is no item, or one that has expired; `ttl <= :now` does not hold where there is no `ttl`.
const ABSENT: &str = "attribute_not_exists(#pk) OR #ttl <= :now";
const VERSION_IS: &str = "#v = :v AND (attribute_not_exists(#ttl) OR #ttl > :now)";
const NOT_EXPIRED: &str = "attribute_not_exists(#ttl) OR #ttl > :now";
const EXPIRED: &str = "#ttl <= :now";

/// How often counters are looked at anew that others end or begin at the same time.
const ADD_ATTEMPTS: usize = 8;

/// A table of DynamoDB. Expired items are told by `clock`, as DynamoDB removes them days later.
///
/// Every write is a transaction, a single one too: it costs twice as much, but the token that it carries makes a try
/// whose answer was lost and that is made again succeed. A plain conditional put would fail on its own first try.
#[derive(Clone)]
pub struct DynamoItemStore {
    client: aws_sdk_dynamodb::Client,
    table: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for DynamoItemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoItemStore").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoItemStore {
    /// The store in the table named `table`.
    #[must_use]
    pub fn new(clients: &AwsClients, table: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { client: clients.dynamodb(), table: table.into(), clock }
    }

    fn now(&self) -> AttributeValue {
        number(self.clock.now().seconds)
    }

    fn put(&self, item: NewItem, version: u64) -> Result<aws_sdk_dynamodb::types::builders::PutBuilder, PortError> {
        if item.index.as_ref().is_some_and(|place| !is_complete(place)) {
            return Err(invalid(WRITE, "a place in the index is incomplete"));
        }
        Ok(Put::builder().table_name(&self.table).set_item(Some(item_attributes(WRITE, item, version)?)))
    }

    fn transaction_item(&self, write: ItemWrite) -> Result<TransactWriteItem, PortError> {
        let builder = TransactWriteItem::builder();
        let built = match write {
            ItemWrite::Create(item) => self.absent(self.put(item, 1)?).build().map(|put| builder.put(put)),
            ItemWrite::Replace(item, version) => {
                let put = self.put(item, version.saturating_add(1))?;
                self.version_is(put, version).build().map(|put| builder.put(put))
            }
            ItemWrite::Delete(key, version) => {
                let delete = Delete::builder().table_name(&self.table).set_key(Some(key_attributes(&key)));
                self.version_is(delete, version).build().map(|delete| builder.delete(delete))
            }
            ItemWrite::Check(key, version) => {
                let check = ConditionCheck::builder().table_name(&self.table).set_key(Some(key_attributes(&key)));
                self.version_is(check, version).build().map(|check| builder.condition_check(check))
            }
            ItemWrite::CheckAbsent(key) => {
                let check = ConditionCheck::builder().table_name(&self.table).set_key(Some(key_attributes(&key)));
                self.absent(check).build().map(|check| builder.condition_check(check))
            }
        };
        let built = built.map_err(|error| invalid(WRITE, "the write is incomplete").with_source(error))?;
        Ok(built.build())
    }

    fn absent<B: Conditional>(&self, builder: B) -> B {
        builder.condition(ABSENT).name("#pk", PARTITION).name("#ttl", EXPIRES).value(":now", self.now())
    }

    fn version_is<B: Conditional>(&self, builder: B, version: u64) -> B {
        let builder = builder.condition(VERSION_IS).name("#v", VERSION).name("#ttl", EXPIRES);
        builder.value(":now", self.now()).value(":v", number(version))
    }

    /// The request for a page; nothing when no sort key can lie in the range.
    fn page_request(&self, query: &ItemQuery) -> Option<QueryFluentBuilder> {
        let (partition, sort) = if query.by_index { (INDEX_PARTITION, INDEX_SORT) } else { (PARTITION, SORT) };
        let request = self.client.query().table_name(&self.table).scan_index_forward(!query.descending);
        let request = if query.by_index { request.index_name(INDEX) } else { request.consistent_read(true) };
        let request = request.limit(query.limit.cast_signed()).filter_expression(NOT_EXPIRED);
        let request =
            request.expression_attribute_names("#ttl", EXPIRES).expression_attribute_values(":now", self.now());
        let request = request.expression_attribute_names("#p", partition);
        let request = request.expression_attribute_values(":p", AttributeValue::S(query.partition.clone()));
        let text = |text: &str| AttributeValue::S(text.to_owned());
        // no key is empty, and DynamoDB takes no empty text to compare keys with
        let (condition, values) = match &query.range {
            SortRange::All => ("#p = :p", vec![]),
            SortRange::Prefix(prefix) if prefix.is_empty() => ("#p = :p", vec![]),
            SortRange::Prefix(prefix) => ("#p = :p AND begins_with(#s, :s)", vec![(":s", text(prefix))]),
            SortRange::Between(from, to) if from > to || to.is_empty() => return None,
            SortRange::Between(from, to) if from.is_empty() => ("#p = :p AND #s <= :s", vec![(":s", text(to))]),
            SortRange::Between(from, to) => {
                ("#p = :p AND #s BETWEEN :s AND :t", vec![(":s", text(from)), (":t", text(to))])
            }
        };
        let request = if values.is_empty() { request } else { request.expression_attribute_names("#s", sort) };
        let request =
            values.into_iter().fold(request, |request, (name, value)| request.expression_attribute_values(name, value));
        Some(request.key_condition_expression(condition))
    }

    /// Adds to counters that have not expired; nothing when they have.
    async fn add_to(
        &self,
        key: &ItemKey,
        amounts: &BTreeMap<&str, i64>,
        expires: Option<Timestamp>,
    ) -> Result<Option<ItemBody>, PortError> {
        let request = self.client.update_item().table_name(&self.table).set_key(Some(key_attributes(key)));
        let request = additions(request, amounts, expires);
        let request = request.condition_expression(NOT_EXPIRED).expression_attribute_names("#ttl", EXPIRES);
        let request = request.expression_attribute_values(":now", self.now()).return_values(ReturnValue::AllNew);
        match request.send().await {
            Ok(UpdateItemOutput { attributes: Some(attributes), .. }) => counters_of(ADD, &attributes).map(Some),
            Ok(_) => Err(PortError::new(ErrorKind::Corrupt, ADD, "the answer lacks the counters")),
            Err(error) if is_condition(&error) => Ok(None),
            Err(error) => Err(port_error(ADD, error)),
        }
    }

    /// Begins counters anew in the place of expired ones; nothing when they have not expired by now.
    async fn begin(
        &self,
        key: &ItemKey,
        amounts: &BTreeMap<&str, i64>,
        expires: Option<Timestamp>,
    ) -> Result<Option<ItemBody>, PortError> {
        let mut attributes = key_attributes(key);
        attributes.insert(VERSION.to_owned(), number(1));
        attributes.extend(amounts.iter().map(|(name, amount)| (counter_name(name), number(amount))));
        attributes.extend(expires.map(|expires| (EXPIRES.to_owned(), number(expiry_second(expires)))));
        let request = self.client.put_item().table_name(&self.table).set_item(Some(attributes.clone()));
        let request = request.condition_expression(EXPIRED).expression_attribute_names("#ttl", EXPIRES);
        match request.expression_attribute_values(":now", self.now()).send().await {
            Ok(_) => counters_of(ADD, &attributes).map(Some),
            Err(error) if is_condition(&error) => Ok(None),
            Err(error) => Err(port_error(ADD, error)),
        }
    }
}

/// What can be done on a condition.
trait Conditional {
    fn condition(self, expression: &str) -> Self;
    fn name(self, placeholder: &str, attribute: &str) -> Self;
    fn value(self, placeholder: &str, value: AttributeValue) -> Self;
}

macro_rules! conditional {
    ($($builder:ty),*) => {$(
        impl Conditional for $builder {
            fn condition(self, expression: &str) -> Self {
                self.condition_expression(expression)
            }

            fn name(self, placeholder: &str, attribute: &str) -> Self {
                self.expression_attribute_names(placeholder, attribute)
            }

            fn value(self, placeholder: &str, value: AttributeValue) -> Self {
                self.expression_attribute_values(placeholder, value)
            }
        }
    )*};
}

conditional!(
    aws_sdk_dynamodb::types::builders::PutBuilder,
    aws_sdk_dynamodb::types::builders::DeleteBuilder,
    aws_sdk_dynamodb::types::builders::ConditionCheckBuilder
);

/// `ADD` of every counter, and of the version, which counts the additions.
fn additions(
    request: UpdateItemFluentBuilder,
    amounts: &BTreeMap<&str, i64>,
    expires: Option<Timestamp>,
) -> UpdateItemFluentBuilder {
    let mut expression = "ADD #v :one".to_owned();
    let mut request = request.expression_attribute_names("#v", VERSION);
    request = request.expression_attribute_values(":one", number(1));
    for (index, (name, amount)) in amounts.iter().enumerate() {
        expression.push_str(&format!(", #n{index} :n{index}"));
        request = request.expression_attribute_names(format!("#n{index}"), counter_name(name));
        request = request.expression_attribute_values(format!(":n{index}"), number(amount));
    }
    if let Some(expires) = expires {
        expression.push_str(" SET #ttl = :ttl");
        request = request.expression_attribute_values(":ttl", number(expiry_second(expires)));
    }
    request.update_expression(expression)
}

fn invalid(operation: &str, message: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, operation, message)
}

fn is_complete(key: &ItemKey) -> bool {
    !key.partition.is_empty() && !key.sort.is_empty()
}

fn check_key(operation: &str, key: &ItemKey) -> Result<(), PortError> {
    if is_complete(key) { Ok(()) } else { Err(invalid(operation, "the key is incomplete")) }
}

fn check_writes(writes: &[ItemWrite]) -> Result<(), PortError> {
    if writes.len() > MAX_TRANSACTION_WRITES {
        let message = format!("{} writes are too many for one transaction", writes.len());
        return Err(invalid(WRITE, message));
    }
    let mut keys = BTreeSet::new();
    for write in writes {
        check_key(WRITE, write.key())?;
        if !keys.insert(write.key()) {
            return Err(invalid(WRITE, "two writes are about one item"));
        }
    }
    Ok(())
}

fn is_condition<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("ConditionalCheckFailedException")
}

fn write_error(error: SdkError<TransactWriteItemsError>) -> PortError {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancellation(cancelled.cancellation_reasons())
        }
        _ => port_error(WRITE, error),
    }
}

/// Why a transaction was given up: the reason that says most. A write that is wrong stays wrong; a condition that does
/// not hold is to be looked at again; after everything else the same transaction may succeed.
fn cancellation(reasons: &[CancellationReason]) -> PortError {
    let rank = |kind| match kind {
        ErrorKind::InvalidArgument => 0,
        ErrorKind::FailedPrecondition => 1,
        ErrorKind::Aborted => 2,
        _ => 3,
    };
    let failed = reasons.iter().enumerate().filter_map(|(index, reason)| {
        let code = reason.code().filter(|code| *code != "None")?;
        Some((kind_of_code(code), index, code))
    });
    match failed.min_by_key(|(kind, index, _)| (rank(*kind), *index)) {
        Some((kind, index, code)) => {
            let message = format!("the transaction was given up because of write {} ({code})", index + 1);
            PortError::new(kind, WRITE, message)
        }
        None => PortError::new(ErrorKind::Aborted, WRITE, "the transaction was given up"),
    }
}

/// One amount a counter: an expression may name an attribute once.
fn amounts_by_name<'a>(amounts: &[(&'a str, i64)]) -> BTreeMap<&'a str, i64> {
    let mut sums = BTreeMap::new();
    for (name, amount) in amounts {
        let sum = sums.entry(*name).or_insert(0_i64);
        *sum = sum.saturating_add(*amount);
    }
    sums
}

#[async_trait]
impl ItemStore for DynamoItemStore {
    async fn get(&self, key: &ItemKey) -> Result<Option<Item>, PortError> {
        check_key(GET, key)?;
        let request = self.client.get_item().table_name(&self.table).set_key(Some(key_attributes(key)));
        let answer = request.consistent_read(true).send().await.map_err(|error| port_error(GET, error))?;
        let item = answer.item.filter(|attributes| !is_expired(attributes, self.clock.now()));
        item.map(|attributes| item_of(GET, attributes)).transpose()
    }

    async fn query(&self, query: &ItemQuery) -> Result<ItemPage, PortError> {
        if query.partition.is_empty() {
            return Err(invalid(QUERY, "the partition is missing"));
        }
        if query.limit == 0 || query.limit > MAX_PAGE_ITEMS {
            return Err(invalid(QUERY, format!("a page holds 1 to {MAX_PAGE_ITEMS} items")));
        }
        let start = query.after.as_deref().map(|cursor| item_cursor::decode(QUERY, query, cursor)).transpose()?;
        let Some(request) = self.page_request(query) else {
            return Ok(ItemPage { items: Vec::new(), next: None });
        };
        let answer = request.set_exclusive_start_key(start).send().await.map_err(|error| port_error(QUERY, error))?;
        let next = answer.last_evaluated_key.filter(|last: &Attributes| !last.is_empty());
        let next = next.map(|last| item_cursor::encode(QUERY, query, &last)).transpose()?;
        let items = answer.items.unwrap_or_default().into_iter().map(|attributes| item_of(QUERY, attributes));
        Ok(ItemPage { items: items.collect::<Result<_, _>>()?, next })
    }

    async fn write(&self, writes: Vec<ItemWrite>) -> Result<(), PortError> {
        check_writes(&writes)?;
        if writes.is_empty() {
            return Ok(());
        }
        let items = writes.into_iter().map(|write| self.transaction_item(write)).collect::<Result<Vec<_>, _>>()?;
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        request.send().await.map(drop).map_err(write_error)
    }

    /// An addition whose answer was lost may have been done, and is then done twice: counters are no locks.
    async fn add(
        &self,
        key: &ItemKey,
        amounts: &[(&str, i64)],
        expires: Option<Timestamp>,
    ) -> Result<ItemBody, PortError> {
        check_key(ADD, key)?;
        let amounts = amounts_by_name(amounts);
        for _ in 0..ADD_ATTEMPTS {
            if let Some(counters) = self.add_to(key, &amounts, expires).await? {
                return Ok(counters);
            }
            if let Some(counters) = self.begin(key, &amounts, expires).await? {
                return Ok(counters);
            }
        }
        Err(PortError::new(ErrorKind::Aborted, ADD, "others end and begin the counters all the time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[test]
    fn the_reason_that_says_most_is_told() {
        for (codes, kind, index) in [
            (&["None", "ConditionalCheckFailed"][..], ErrorKind::FailedPrecondition, 2),
            (&["TransactionConflict", "None", "ConditionalCheckFailed"], ErrorKind::FailedPrecondition, 3),
            (&["TransactionConflict", "ThrottlingError"], ErrorKind::Aborted, 1),
            (&["ConditionalCheckFailed", "ValidationError"], ErrorKind::InvalidArgument, 2),
            (&["ProvisionedThroughputExceeded"], ErrorKind::ResourceExhausted, 1),
            (&["ItemCollectionSizeLimitExceeded"], ErrorKind::InvalidArgument, 1),
        ] {
            let error = cancellation(&reasons(codes));
            assert_eq!(error.kind, kind, "{codes:?}");
            assert!(error.message().contains(&format!("write {index} ")), "{error}");
        }
        assert_eq!(cancellation(&[]).kind, ErrorKind::Aborted);
        assert_eq!(cancellation(&reasons(&["None"])).kind, ErrorKind::Aborted);
    }

    #[test]
    fn writes_that_cannot_be_one_transaction_are_refused() {
        let check = |index: usize| ItemWrite::CheckAbsent(ItemKey::new("p", index.to_string()));
        let most: Vec<_> = (0..MAX_TRANSACTION_WRITES).map(check).collect();
        assert!(check_writes(&most).is_ok());
        let more: Vec<_> = (0..=MAX_TRANSACTION_WRITES).map(check).collect();
        let twice = [check(1), ItemWrite::Delete(ItemKey::new("p", "1"), 4)];
        let nameless = [ItemWrite::CheckAbsent(ItemKey::new("", "s"))];
        for wrong in [&more[..], &twice, &nameless] {
            assert_eq!(check_writes(wrong).unwrap_err().kind, ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn amounts_of_one_counter_are_added_up() {
        assert_eq!(amounts_by_name(&[("a", 1), ("b", 2), ("a", -4)]), BTreeMap::from([("a", -3), ("b", 2)]));
    }
}
