//! The documents of a replay server: their answers, one behind the other, and how queries select among them.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use firebackup_model::Timestamp;
use firebackup_model::document::{self, CREATE_TIME_FIELD, FIELDS_FIELD};
use firebackup_model::path::{collection_group_of, compare};
use firebackup_model::wire::{Fields, Value, put_bytes_field, put_varint};
use gcloud_sdk::google::firestore::v1::structured_query::{CollectionSelector, Direction};
use gcloud_sdk::google::firestore::v1::{Cursor, StructuredQuery, value::ValueType};
use tonic::Status;

use super::ReplayError;
use super::answer::{Chunks, put_frame};

/// Field numbers of `RunQueryResponse`, and of `BatchGetDocumentsResponse` where they differ.
const DOCUMENT_FIELD: u32 = 1;
const READ_TIME_FIELD: u32 = 3;
const SKIPPED_FIELD: u32 = 4;
const MISSING_FIELD: u32 = 2;
const LOOKUP_READ_TIME_FIELD: u32 = 4;

const FRAME_HEAD_BYTES: usize = 5;
/// How much is handed to the connection at once.
const CHUNK_BYTES: usize = 64 * 1024;
const NAME: &str = "__name__";

/// Ready answers in path order; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Documents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// A framed `RunQueryResponse` a document.
    frames: Bytes,
    /// Where each begins, and where the last one ends.
    offsets: Vec<usize>,
    /// The read time as a protobuf message.
    read_time: Vec<u8>,
}

impl Documents {
    pub(super) fn collect(
        documents: impl IntoIterator<Item = Bytes>,
        read_time: Timestamp,
    ) -> Result<Self, ReplayError> {
        let read_time = timestamp_message(read_time);
        let (mut frames, mut offsets) = (BytesMut::new(), vec![0]);
        let (mut message, mut previous) = (Vec::new(), String::new());
        for (index, document) in documents.into_iter().enumerate() {
            let head = document::head(&document).map_err(|source| ReplayError::Document { index, source })?;
            if index > 0 && compare_names(&previous, head.name).is_ge() {
                return Err(ReplayError::Unsorted { index });
            }
            previous.clear();
            previous.push_str(head.name);
            message.clear();
            put_bytes_field(&mut message, DOCUMENT_FIELD, &document);
            put_bytes_field(&mut message, READ_TIME_FIELD, &read_time);
            put_frame(&mut frames, &message);
            offsets.push(frames.len());
        }
        Ok(Self(Arc::new(Inner { frames: frames.freeze(), offsets, read_time })))
    }

    pub(super) fn len(&self) -> usize {
        self.0.offsets.len() - 1
    }

    fn document(&self, index: usize) -> &[u8] {
        let message = &self.0.frames[self.0.offsets[index] + FRAME_HEAD_BYTES..self.0.offsets[index + 1]];
        match Fields::of(message).next() {
            Ok(Some(field)) => match field.value {
                Value::Bytes(document) => document,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// The full name of a document.
    pub(super) fn name(&self, index: usize) -> &str {
        document::head(self.document(index)).map_or("", |head| head.name)
    }

    /// The first index whose name stands at or (with `after`) behind `name`.
    fn position(&self, name: &str, after: bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match compare_names(self.name(middle), name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return if after { middle + 1 } else { middle },
                Ordering::Greater => high = middle,
            }
        }
        low
    }

    /// The answer to a query, in chunks of framed messages. Whole documents of one range are sent as they lie here.
    pub(super) fn chunks(&self, selected: Selected) -> Chunks {
        let first = self.first_message(&selected);
        if selected.is_contiguous() {
            let (start, end) = selected.bounds();
            let (from, to) = (self.0.offsets[start], self.0.offsets[end]);
            let frames = self.0.frames.clone();
            let slices =
                (from..to).step_by(CHUNK_BYTES).map(move |at| frames.slice(at..to.min(at.saturating_add(CHUNK_BYTES))));
            return Box::new(first.into_iter().chain(slices));
        }
        let documents = self.clone();
        let keys_only = selected.keys_only;
        let mut indices = selected.into_indices(self.clone());
        let built = std::iter::from_fn(move || {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES + 4096);
            while chunk.len() < CHUNK_BYTES {
                let Some(index) = indices.next() else { break };
                documents.put_answer(&mut chunk, index, keys_only);
            }
            (!chunk.is_empty()).then(|| chunk.freeze())
        });
        Box::new(first.into_iter().chain(built))
    }

    /// What a server says besides the documents: how many it skipped, or just the read time when there are none.
    fn first_message(&self, selected: &Selected) -> Option<Bytes> {
        let skipped = selected.skipped(self);
        if skipped == 0 && selected.count(self) > 0 {
            return None;
        }
        let mut message = Vec::new();
        put_bytes_field(&mut message, READ_TIME_FIELD, &self.0.read_time);
        if skipped > 0 {
            put_varint(&mut message, u64::from(SKIPPED_FIELD) << 3);
            put_varint(&mut message, skipped as u64);
        }
        Some(framed(&message))
    }

    fn put_answer(&self, chunk: &mut BytesMut, index: usize, keys_only: bool) {
        if !keys_only {
            chunk.extend_from_slice(&self.0.frames[self.0.offsets[index]..self.0.offsets[index + 1]]);
            return;
        }
        let mut message = Vec::with_capacity(256);
        put_bytes_field(&mut message, DOCUMENT_FIELD, &without_fields(self.document(index)));
        put_bytes_field(&mut message, READ_TIME_FIELD, &self.0.read_time);
        put_frame(chunk, &message);
    }

    /// The answer to a lookup of documents by name, one message each, in the order asked.
    pub(super) fn lookups(&self, names: &[String]) -> Chunks {
        let mut chunk = BytesMut::new();
        for name in names {
            let index = self.position(name, false);
            let mut message = Vec::new();
            if index < self.len() && self.name(index) == name {
                put_bytes_field(&mut message, DOCUMENT_FIELD, self.document(index));
            } else {
                put_bytes_field(&mut message, MISSING_FIELD, name.as_bytes());
            }
            put_bytes_field(&mut message, LOOKUP_READ_TIME_FIELD, &self.0.read_time);
            put_frame(&mut chunk, &message);
        }
        Box::new(std::iter::once(chunk.freeze()))
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + FRAME_HEAD_BYTES);
    put_frame(&mut frame, message);
    frame.freeze()
}

fn timestamp_message(moment: Timestamp) -> Vec<u8> {
    let mut message = Vec::new();
    put_varint(&mut message, 1 << 3);
    put_varint(&mut message, moment.seconds.cast_unsigned());
    put_varint(&mut message, 2 << 3);
    put_varint(&mut message, u64::from(moment.nanos));
    message
}

/// A document with its name and times alone, as a keys-only query gives it.
fn without_fields(document: &[u8]) -> Vec<u8> {
    let mut bare = Vec::with_capacity(192);
    let mut fields = Fields::of(document);
    while let Ok(Some(field)) = fields.next() {
        if field.number < FIELDS_FIELD || field.number >= CREATE_TIME_FIELD {
            bare.extend_from_slice(field.raw);
        }
    }
    bare
}

/// Compares full names of one database by their paths.
fn compare_names(left: &str, right: &str) -> Ordering {
    compare(relative(left), relative(right))
}

fn relative(name: &str) -> &str {
    name.split_once("/documents/").map_or(name, |(_, path)| path)
}

/// Which documents a query is about.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    start: usize,
    end: usize,
    filter: Option<Filter>,
    offset: usize,
    limit: usize,
    keys_only: bool,
}

/// What a document must be besides lying in the range.
#[derive(Debug, Clone)]
struct Filter {
    /// The name of the parent and a slash.
    parent: String,
    from: CollectionSelector,
}

impl Selected {
    /// What `query` selects below `parent`.
    pub(super) fn by(documents: &Documents, parent: &str, query: &StructuredQuery) -> Result<Self, Status> {
        if query.r#where.is_some() || query.find_nearest.is_some() {
            return Err(Status::unimplemented("the replay server does not filter by fields"));
        }
        let start = query.start_at.as_ref().map(|cursor| bound(documents, cursor)).transpose()?.unwrap_or(0);
        let end = query.end_at.as_ref().map(|cursor| bound(documents, cursor)).transpose()?;
        let end = end.unwrap_or(documents.len()).max(start);
        Ok(Self {
            start,
            end,
            filter: filter(parent, query)?,
            offset: usize::try_from(query.offset).unwrap_or(0),
            limit: query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0)),
            keys_only: is_keys_only(query)?,
        })
    }

    fn is_contiguous(&self) -> bool {
        self.filter.is_none() && !self.keys_only
    }

    /// The range with offset and limit applied, where nothing is filtered.
    fn bounds(&self) -> (usize, usize) {
        let start = self.start.saturating_add(self.offset).min(self.end);
        (start, start.saturating_add(self.limit).min(self.end))
    }

    /// How many there are.
    pub(super) fn count(&self, documents: &Documents) -> usize {
        match self.filter {
            None => {
                let (start, end) = self.bounds();
                end - start
            }
            Some(_) => self.indices(documents).count(),
        }
    }

    /// How many the offset leaves out.
    fn skipped(&self, documents: &Documents) -> usize {
        if self.offset == 0 {
            return 0;
        }
        let all = Self { offset: 0, limit: usize::MAX, ..self.clone() };
        all.count(documents).min(self.offset)
    }

    /// Their indices, in order.
    pub(super) fn indices(&self, documents: &Documents) -> impl Iterator<Item = usize> + use<> {
        self.clone().into_indices(documents.clone())
    }

    fn into_indices(self, documents: Documents) -> impl Iterator<Item = usize> {
        let Self { start, end, filter, offset, limit, .. } = self;
        let passes = move |index: &usize| filter.as_ref().is_none_or(|filter| filter.takes(documents.name(*index)));
        (start..end).filter(passes).skip(offset).take(limit)
    }
}

impl Filter {
    fn takes(&self, name: &str) -> bool {
        let Some(below) = name.strip_prefix(&self.parent) else { return false };
        let group = &self.from.collection_id;
        let is_direct = below.matches('/').count() == 1;
        (self.from.all_descendants || is_direct) && (group.is_empty() || collection_group_of(below) == group)
    }
}

/// Nothing when every document of the database passes.
fn filter(parent: &str, query: &StructuredQuery) -> Result<Option<Filter>, Status> {
    let from = match &query.from[..] {
        [] => CollectionSelector { collection_id: String::new(), all_descendants: true },
        [from] => from.clone(),
        _ => return Err(Status::invalid_argument("a query is from one collection")),
    };
    let takes_all = parent.ends_with("/documents") && from.all_descendants && from.collection_id.is_empty();
    Ok((!takes_all).then(|| Filter { parent: format!("{parent}/"), from }))
}

fn is_keys_only(query: &StructuredQuery) -> Result<bool, Status> {
    let by_name = query.order_by.iter().all(|order| {
        order.direction != Direction::Descending as i32
            && order.field.as_ref().is_some_and(|field| field.field_path == NAME)
    });
    if !by_name {
        return Err(Status::unimplemented("the replay server orders by __name__ ascending only"));
    }
    match query.select.as_ref().map(|select| &select.fields[..]) {
        None | Some([]) => Ok(false),
        Some([field]) if field.field_path == NAME => Ok(true),
        Some(_) => Err(Status::unimplemented("the replay server selects all fields, or __name__ alone")),
    }
}

/// The index that a cursor stands before: as a start the first one taken, as an end the first one left.
fn bound(documents: &Documents, cursor: &Cursor) -> Result<usize, Status> {
    match &cursor.values[..] {
        [value] => match &value.value_type {
            Some(ValueType::ReferenceValue(name)) => Ok(documents.position(name, !cursor.before)),
            _ => Err(Status::invalid_argument("a cursor on __name__ is a reference")),
        },
        _ => Err(Status::invalid_argument("a cursor on __name__ has one value")),
    }
}
