//! Whether two documents hold the same, whatever order their bytes came in.
//!
//! Protobuf leaves the order of map entries to the writer, and a restore cannot set the server's times. So documents
//! are compared in a canonical form that has neither. It is a form to compare, never one to store: what FireBackup
//! keeps is the bytes as they came.

use firebackup_model::document::{CREATE_TIME_FIELD, FIELDS_FIELD, NAME_FIELD, UPDATE_TIME_FIELD};
use firebackup_model::wire::{Field, Fields, Value as Wire, WireError, put_bytes_field};

use crate::document_value::{
    self as document, ARRAY_VALUES, Entry, MAP_FIELDS, MAX_DEPTH, Member, Unknown, kind, put_double_field,
    put_varint_field,
};

/// Why a document has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// The protobuf is malformed.
    #[error("could not compare a document: its bytes are malformed")]
    Wire(#[from] WireError),
    /// More levels of maps and arrays than Firestore could have stored.
    #[error("could not compare a document: its values nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Whether names count when documents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Documents of different names differ.
    Compare,
    /// Only fields count, as for a document and its copy elsewhere.
    Ignore,
}

/// Whether two documents hold the same fields and, as `names` says, the same name; create and update times are set
/// aside, and so is the order of map entries.
///
/// Values are the same when Firestore could not tell them apart: an integer is never a double, `-0.0` is not `0.0`, and
/// NaNs are compared by their bits. Fields that this program does not know count too. Where the bytes of all fields are
/// equal the answer is given without reading them, so two equally malformed documents may be called the same.
///
/// # Errors
/// When a document is malformed or nests deeper than 64 levels.
pub fn same_content(left: &[u8], right: &[u8], names: Names) -> Result<bool, CanonicalError> {
    if names == Names::Compare && name(left)? != name(right)? {
        return Ok(false);
    }
    Ok(content_is_identical(left, right)? || canonical(left)? == canonical(right)?)
}

/// The canonical form of a document's content: its fields, without name and times, map entries sorted by the bytes of
/// their keys at every level, each key once (the last entry of a key counts), numbers in their shortest spelling,
/// defaults left out where their absence means the same.
///
/// A `google.firestore.v1.Document` itself, so that `canonical` of it is it again. Fields that are not known stand last
/// in their message, by number.
///
/// # Errors
/// When the document is malformed or nests deeper than 64 levels.
pub fn canonical(document: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    let read = document::read_document(document)?;
    let mut out = Vec::with_capacity(document.len());
    put_entries(&mut out, FIELDS_FIELD, read.fields, 0)?;
    put_unknown(&mut out, read.unknown);
    Ok(out)
}

fn name(document: &[u8]) -> Result<&[u8], WireError> {
    let mut name: &[u8] = &[];
    let mut fields = Fields::of(document);
    while let Some(field) = fields.next()? {
        if let (NAME_FIELD, Wire::Bytes(bytes)) = (field.number, field.value) {
            name = bytes;
        }
    }
    Ok(name)
}

/// Whether all that counts stands in both, byte for byte and in one order.
fn content_is_identical(left: &[u8], right: &[u8]) -> Result<bool, WireError> {
    let (mut left, mut right) = (Fields::of(left), Fields::of(right));
    loop {
        match (next_content(&mut left)?, next_content(&mut right)?) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if a.raw == b.raw => {}
            _ => return Ok(false),
        }
    }
}

fn next_content<'d>(fields: &mut Fields<'d>) -> Result<Option<Field<'d>>, WireError> {
    while let Some(field) = fields.next()? {
        let aside = matches!(field.number, NAME_FIELD | CREATE_TIME_FIELD | UPDATE_TIME_FIELD);
        if !(aside && matches!(field.value, Wire::Bytes(_))) {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

fn put_entries(
    out: &mut Vec<u8>,
    number: u32,
    mut entries: Vec<Entry<'_>>,
    depth: usize,
) -> Result<(), CanonicalError> {
    entries.sort_by_key(|entry| entry.key);
    for entry in entries {
        let mut message = document::entry_message(entry.key, &canonical_value(&entry.value, depth + 1)?);
        put_unknown(&mut message, entry.unknown);
        put_bytes_field(out, number, &message);
    }
    Ok(())
}

fn put_unknown(out: &mut Vec<u8>, mut unknown: Unknown<'_>) {
    unknown.sort_by_key(|(number, _)| *number);
    for (_, raw) in unknown {
        out.extend_from_slice(raw);
    }
}

fn canonical_value(message: &[u8], depth: usize) -> Result<Vec<u8>, CanonicalError> {
    if depth > MAX_DEPTH {
        return Err(CanonicalError::TooDeep);
    }
    let value = document::read_value(message)?;
    let mut out = Vec::with_capacity(message.len());
    match value.member {
        None => {}
        Some(Member::Null) => put_varint_field(&mut out, kind::NULL, 0),
        Some(Member::Boolean(boolean)) => put_varint_field(&mut out, kind::BOOLEAN, boolean.into()),
        Some(Member::Integer(integer)) => put_varint_field(&mut out, kind::INTEGER, integer as u64),
        Some(Member::Double(bits)) => put_double_field(&mut out, kind::DOUBLE, bits),
        Some(Member::String(text)) => put_bytes_field(&mut out, kind::STRING, text),
        Some(Member::Bytes(bytes)) => put_bytes_field(&mut out, kind::BYTES, bytes),
        Some(Member::Reference(name)) => put_bytes_field(&mut out, kind::REFERENCE, name),
        Some(Member::Timestamp(time)) => put_bytes_field(&mut out, kind::TIMESTAMP, &canonical_moment(&time)?),
        Some(Member::GeoPoint(point)) => put_bytes_field(&mut out, kind::GEO_POINT, &canonical_point(&point)?),
        Some(Member::Array(array)) => put_bytes_field(&mut out, kind::ARRAY, &canonical_array(&array, depth)?),
        Some(Member::Map(map)) => put_bytes_field(&mut out, kind::MAP, &canonical_map(&map, depth)?),
    }
    put_unknown(&mut out, value.unknown);
    Ok(out)
}

fn canonical_moment(message: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    let moment = document::read_moment(message)?;
    let mut out = document::moment_message(moment.seconds, moment.nanos);
    put_unknown(&mut out, moment.unknown);
    Ok(out)
}

fn canonical_point(message: &[u8]) -> Result<Vec<u8>, CanonicalError> {
    let point = document::read_point(message)?;
    let mut out = document::point_message(point.latitude, point.longitude);
    put_unknown(&mut out, point.unknown);
    Ok(out)
}

fn canonical_array(message: &[u8], depth: usize) -> Result<Vec<u8>, CanonicalError> {
    let (values, unknown) = document::read_array(message)?;
    let mut out = Vec::with_capacity(message.len());
    for value in values {
        put_bytes_field(&mut out, ARRAY_VALUES, &canonical_value(value, depth + 1)?);
    }
    put_unknown(&mut out, unknown);
    Ok(out)
}

fn canonical_map(message: &[u8], depth: usize) -> Result<Vec<u8>, CanonicalError> {
    let (entries, unknown) = document::read_map(message)?;
    let mut out = Vec::with_capacity(message.len());
    put_entries(&mut out, MAP_FIELDS, entries, depth)?;
    put_unknown(&mut out, unknown);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document_generator::{Sample, Tree, nested, of_one_field, sample};
    use proptest::prelude::*;

    fn field(message: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        message.iter().for_each(|(number, bytes)| put_bytes_field(&mut out, *number, bytes));
        out
    }

    /// A document whose field `k` has the value whose bytes are given.
    fn holding(value: &[u8]) -> Vec<u8> {
        field(&[(2, &field(&[(1, b"k"), (2, value)]))])
    }

    fn check(left: &[u8], right: &[u8], same: bool) {
        for (left, right) in [(left, right), (right, left)] {
            assert_eq!(same_content(left, right, Names::Ignore), Ok(same), "{left:02x?} {right:02x?}");
        }
    }

    fn check_values(left: &[u8], right: &[u8], same: bool) {
        check(&holding(left), &holding(right), same);
    }

    #[test]
    fn values_of_different_kinds_or_bits_differ() {
        let values = [
            Tree::Null,
            Tree::Boolean(false),
            Tree::Integer(0),
            Tree::Integer(3),
            Tree::Double(0),
            Tree::Double((-0.0f64).to_bits()),
            Tree::Double(3.0f64.to_bits()),
            Tree::Double(f64::NAN.to_bits()),
            Tree::Double(f64::NAN.to_bits() | 1),
            Tree::Timestamp(0, 0),
            Tree::Timestamp(0, 1),
            Tree::Text(String::new()),
            Tree::Bytes(Vec::new()),
            Tree::Reference(String::new()),
            Tree::GeoPoint(0, 0),
            Tree::GeoPoint((-0.0f64).to_bits(), 0),
            Tree::Array(Vec::new()),
            Tree::Array(vec![Tree::Null]),
            Tree::Map(Vec::new()),
            Tree::Map(vec![(String::new(), Tree::Null)]),
        ];
        for (i, left) in values.iter().enumerate() {
            for (j, right) in values.iter().enumerate() {
                check_values(&left.encode(), &right.encode(), i == j);
            }
        }
        check_values(&[], &Tree::Null.encode(), false);
    }

    #[test]
    fn spelling_does_not_count() {
        check_values(&[0x10, 0x83, 0x00], &[0x10, 3], true); // an integer in more bytes than it takes
        check_values(&[0x08, 7], &[0x08, 1], true); // a boolean
        check_values(&field(&[(10, &[0x08, 0, 0x10, 0])]), &field(&[(10, &[])]), true);
        check_values(&field(&[(10, &[0x10, 5, 0x08, 1])]), &field(&[(10, &[0x08, 1, 0x10, 5])]), true);
        check_values(&[0x10, 1, 0x10, 2], &[0x10, 2], true); // the last of two
        check_values(&[0x58, 0, 0x10, 2], &[0x10, 2], true); // of one oneof
        let value_first = field(&[(2, &field(&[(2, &[0x10, 2]), (1, b"k")]))]);
        check(&value_first, &holding(&[0x10, 2]), true);
        let nameless = field(&[(2, &field(&[(2, &[0x10, 2])]))]); // no key is the empty key
        check(&nameless, &field(&[(2, &field(&[(1, b""), (2, &[0x10, 2])]))]), true);
    }

    #[test]
    fn a_message_in_pieces_is_merged_but_never_mended() {
        let (one, two) = (field(&[(1, &[0x10, 1])]), field(&[(1, &[0x10, 2])]));
        check_values(&field(&[(9, &one), (9, &two)]), &field(&[(9, &[&one[..], &two].concat())]), true);
        check_values(&field(&[(9, &one), (6, &[]), (9, &two)]), &field(&[(9, &two)]), true);
        let pieces = field(&[(2, &field(&[(1, b"k"), (2, &[0x10, 1]), (2, &[0x58, 0])]))]);
        check(&pieces, &holding(&Tree::Null.encode()), true);
        let cut = holding(&field(&[(9, &one[..2]), (9, &one[2..])]));
        assert!(matches!(canonical(&cut), Err(CanonicalError::Wire(_))));
    }

    #[test]
    fn the_last_entry_of_a_key_counts() {
        let (one, two) = (field(&[(1, b"k"), (2, &[0x10, 1])]), field(&[(1, b"k"), (2, &[0x10, 2])]));
        check(&field(&[(2, &one), (2, &two)]), &holding(&[0x10, 2]), true);
        check(&field(&[(2, &two), (2, &one)]), &holding(&[0x10, 2]), false);
        let map = |entries: &[&[u8]]| field(&[(6, &entries.iter().flat_map(|e| field(&[(1, e)])).collect::<Vec<_>>())]);
        check_values(&map(&[&one, &two]), &map(&[&two]), true);
    }

    #[test]
    fn what_is_not_known_counts_but_not_its_place() {
        let value = Tree::Integer(1).encode();
        let kinds = [field(&[(20, b"f")]), field(&[(20, b"g")]), field(&[(21, b"f")])];
        for (i, left) in kinds.iter().enumerate() {
            for (j, right) in kinds.iter().enumerate() {
                check_values(left, right, i == j);
            }
        }
        check_values(&[&kinds[0][..], &value].concat(), &[&value[..], &kinds[0]].concat(), true);
        check_values(&[&kinds[0][..], &kinds[2]].concat(), &[&kinds[2][..], &kinds[0]].concat(), true);
        check_values(&[&kinds[0][..], &kinds[1]].concat(), &[&kinds[1][..], &kinds[0]].concat(), false);
        check(&[0x38, 1], &[], false);
        check(&field(&[(2, &[0x78, 1])]), &field(&[(2, &[])]), false); // in an entry
        check(&[0x08, 1], &[], false); // the number of the name, but no name
    }

    #[test]
    fn times_are_set_aside_and_names_where_asked() {
        let one = of_one_field(Tree::Null);
        let mut other = Sample { create_time: Some((1, 2)), update_time: Some((3, 4)), ..one.clone() };
        assert_eq!(same_content(&one.encode(), &other.encode(), Names::Compare), Ok(true));
        other.name.push('x');
        assert_eq!(same_content(&one.encode(), &other.encode(), Names::Compare), Ok(false));
        assert_eq!(same_content(&one.encode(), &other.encode(), Names::Ignore), Ok(true));
    }

    #[test]
    fn goes_down_64_levels_on_a_small_stack_and_no_further() {
        let document = |levels| of_one_field(nested(Tree::Null, levels)).encode();
        let (deepest, too_deep) = (document(63), document(64));
        let check = move || {
            assert!(canonical(&deepest).is_ok());
            assert_eq!(canonical(&too_deep), Err(CanonicalError::TooDeep));
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(check).unwrap().join().unwrap();
    }

    /// The fixture was written by Google's own protobuf library, deterministically: that sorts entries as well.
    #[test]
    fn the_form_of_a_deterministic_document_is_its_own_fields() {
        let document = include_bytes!("../fixtures/documents/every-kind.pb");
        let (mut content, mut fields) = (Vec::new(), Fields::of(document));
        while let Some(field) = next_content(&mut fields).unwrap() {
            content.extend_from_slice(field.raw);
        }
        assert_eq!(canonical(document), Ok(content));
    }

    proptest! {
        #[test]
        fn is_the_same_exactly_when_the_trees_are(one in sample(), two in sample(), at: prop::sample::Index, what in 0..4) {
            let mut count = 0;
            one.map(&mut |tree| { count += 1; tree });
            let other = match what {
                0 => two,
                1 => one.turned(),
                // one value, at any depth, becomes another one
                _ if count > 0 => {
                    let mut left = at.index(count);
                    one.turned().map(&mut |tree| {
                        let here = left == 0;
                        left = left.wrapping_sub(1);
                        if here { Tree::Text("changed".to_owned()) } else { tree }
                    })
                }
                _ => one.clone(),
            };
            let expected = one.sorted().fields == other.sorted().fields;
            prop_assert_eq!(same_content(&one.encode(), &other.encode(), Names::Ignore), Ok(expected));
            let named = expected && one.name == other.name;
            prop_assert_eq!(same_content(&other.encode(), &one.encode(), Names::Compare), Ok(named));
        }

        #[test]
        fn the_form_of_the_form_is_itself(sample in sample()) {
            let form = canonical(&sample.encode()).unwrap();
            prop_assert_eq!(canonical(&form), Ok(form.clone()));
            prop_assert_eq!(canonical(&sample.turned().encode()), Ok(form));
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>, sample in sample(), at: prop::sample::Index, byte: u8) {
            let mut damaged = sample.encode();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for bytes in [&bytes[..], &damaged, &damaged[..at]] {
                if let Ok(form) = canonical(bytes) {
                    prop_assert_eq!(canonical(&form), Ok(form.clone()));
                    prop_assert_eq!(same_content(bytes, &form, Names::Ignore), Ok(true));
                }
            }
        }
    }
}
