//! Sample documents that look like an application's, in path order, the same for the same seed.

use bytes::Bytes;
use firebackup_model::DatabaseName;
use firebackup_model::document::{CREATE_TIME_FIELD, FIELDS_FIELD, NAME_FIELD, UPDATE_TIME_FIELD};
use firebackup_model::wire::put_bytes_field;
use gcloud_sdk::google::firestore::v1::{ArrayValue, Value, value::ValueType};
use gcloud_sdk::google::r#type::LatLng;
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// In ASCII order, so that ids made of ascending digits ascend.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LENGTH: usize = 20;
const RANK_DIGITS: u32 = 5;
/// Each customer is followed by its orders.
const ORDERS_A_CUSTOMER: u64 = 9;
const FIRST_SECOND: i64 = 1_600_000_000;
const WORDS: [&str; 32] = [
    "account",
    "address",
    "amber",
    "battery",
    "blue",
    "carrier",
    "cotton",
    "customer",
    "delivery",
    "discount",
    "express",
    "fragile",
    "garden",
    "giant",
    "invoice",
    "kitchen",
    "leather",
    "machine",
    "north",
    "office",
    "parcel",
    "payment",
    "pending",
    "purple",
    "refund",
    "shipment",
    "silver",
    "standard",
    "station",
    "vintage",
    "warehouse",
    "window",
];

/// `count` documents of about `size` bytes each: `customers/<id>`, each followed by nine
/// `customers/<id>/orders/<id>`. Sizes below about 400 bytes are not reached.
pub fn documents(database: &DatabaseName, count: u64, size: usize, seed: u64) -> impl Iterator<Item = Bytes> + use<> {
    let root = database.documents_root();
    let mut random = StdRng::seed_from_u64(seed);
    let mut customer = String::new();
    (0..count).map(move |index| {
        let name = match index % (ORDERS_A_CUSTOMER + 1) {
            0 => {
                customer = format!("{root}/customers/{}", ascending_id(index, &mut random));
                customer.clone()
            }
            order => format!("{customer}/orders/{}", ascending_id(order, &mut random)),
        };
        document(&name, &root, size, &mut random)
    })
}

/// An id as Firestore makes them, its first digits the rank.
fn ascending_id(rank: u64, random: &mut StdRng) -> String {
    let ranked = (0..RANK_DIGITS).rev().map(|place| (rank / 62u64.pow(place) % 62) as usize);
    let mut id: String = ranked.map(|digit| char::from(DIGITS[digit])).collect();
    while id.len() < ID_LENGTH {
        id.push(char::from(DIGITS[random.random_range(0..DIGITS.len())]));
    }
    id
}

fn document(name: &str, root: &str, size: usize, random: &mut StdRng) -> Bytes {
    let created = moment(random);
    let updated = prost_types::Timestamp { seconds: created.seconds + random.random_range(0..10_000_000), ..created };
    let mut out = Vec::with_capacity(size + 64);
    put_bytes_field(&mut out, NAME_FIELD, name.as_bytes());
    put_field(&mut out, "active", &ValueType::BooleanValue(random.random_bool(0.8)));
    put_field(&mut out, "amount", &ValueType::IntegerValue(random.random_range(1..2_000_000)));
    put_field(&mut out, "created", &ValueType::TimestampValue(created));
    let email = format!("{}.{}{}@example.com", word(random), word(random), random.random_range(1..10_000));
    put_field(&mut out, "email", &ValueType::StringValue(email));
    let point = LatLng { latitude: random.random_range(-90.0..90.0), longitude: random.random_range(-180.0..180.0) };
    put_field(&mut out, "location", &ValueType::GeoPointValue(point));
    put_field(&mut out, "rating", &ValueType::DoubleValue(f64::from(random.random_range(0..500)) / 100.0));
    put_field(&mut out, "shop", &ValueType::ReferenceValue(format!("{root}/shops/{}", random.random_range(1..500))));
    put_field(&mut out, "tags", &tags(random));
    let rest = size.saturating_sub(out.len() + 64);
    put_field(&mut out, "text", &ValueType::StringValue(text(rest, random)));
    put_bytes_field(&mut out, CREATE_TIME_FIELD, &created.encode_to_vec());
    put_bytes_field(&mut out, UPDATE_TIME_FIELD, &updated.encode_to_vec());
    out.into()
}

/// One entry of the map of fields, in the order of writing: encoding a whole map would shuffle it.
fn put_field(out: &mut Vec<u8>, name: &str, value: &ValueType) {
    let value = Value { value_type: Some(value.clone()) };
    let mut entry = Vec::new();
    put_bytes_field(&mut entry, 1, name.as_bytes());
    put_bytes_field(&mut entry, 2, &value.encode_to_vec());
    put_bytes_field(out, FIELDS_FIELD, &entry);
}

fn moment(random: &mut StdRng) -> prost_types::Timestamp {
    let seconds = FIRST_SECOND + random.random_range(0..100_000_000);
    prost_types::Timestamp { seconds, nanos: random.random_range(0..1_000_000) * 1000 }
}

fn tags(random: &mut StdRng) -> ValueType {
    let count = random.random_range(0..5);
    let values = (0..count).map(|_| Value { value_type: Some(ValueType::StringValue(word(random).to_owned())) });
    ValueType::ArrayValue(ArrayValue { values: values.collect() })
}

/// Words and numbers, about as compressible as what people type.
fn text(length: usize, random: &mut StdRng) -> String {
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        if random.random_bool(0.35) {
            text.push_str(&format!("{:x} ", random.random::<u32>()));
        } else {
            text.push_str(word(random));
            text.push(' ');
        }
    }
    text.truncate(length);
    text
}

fn word(random: &mut StdRng) -> &'static str {
    WORDS[random.random_range(0..WORDS.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::document::head;

    #[test]
    fn sorted_sized_and_the_same_again() {
        let database = DatabaseName::new("demo-samples", "(default)");
        let first: Vec<Bytes> = documents(&database, 1000, 1024, 7).collect();
        assert!(first.iter().eq(&documents(&database, 1000, 1024, 7).collect::<Vec<_>>()));
        assert!(!first.iter().eq(&documents(&database, 1000, 1024, 8).collect::<Vec<_>>()));
        let paths: Vec<_> = first.iter().map(|bytes| database.path_of(head(bytes).unwrap().name).unwrap()).collect();
        assert!(paths.is_sorted_by(|a, b| a < b));
        assert!(first.iter().all(|bytes| (900..1100).contains(&bytes.len())));
    }
}
