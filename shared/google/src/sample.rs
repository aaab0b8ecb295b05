//! Plausible documents in any number, for demonstrations and benchmarks.

use bytes::Bytes;
use firebackup_model::database::DatabaseName;
use firebackup_model::path::DocumentPath;

use crate::document_bytes::{
    Encoded, array, boolean, document, double, geo_point, integer, map, reference, string, timestamp,
};

/// Documents in a round: a user, three orders of it, a product and three events.
const ROUND: usize = 8;
/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200;
const TWO_YEARS: u64 = 2 * 365 * 24 * 3600;

const NAMES: [&str; 16] = [
    "Ada",
    "Bo",
    "Chidi",
    "Dorothea",
    "Élodie",
    "Farid",
    "Grace",
    "Hiroshi",
    "Ingrid",
    "João",
    "Katarzyna",
    "Lwazi",
    "Mei",
    "Nikolaos",
    "Oyelaran",
    "Priya",
];
const SURNAMES: [&str; 12] = [
    "Lovelace", "Nguyen", "Okafor", "Müller", "García", "Hassan", "Tanaka", "Larsen", "Silva", "Kowalska", "Dlamini",
    "Sharma",
];
const CITIES: [(&str, f64, f64); 6] = [
    ("Lisbon", 38.7223, -9.1393),
    ("Nairobi", -1.2921, 36.8219),
    ("Osaka", 34.6937, 135.5023),
    ("São Paulo", -23.5505, -46.6333),
    ("Toronto", 43.6532, -79.3832),
    ("Zürich", 47.3769, 8.5417),
];
const GOODS: [&str; 10] =
    ["lamp", "kettle", "notebook", "backpack", "headphones", "desk", "blanket", "bicycle pump", "tea set", "clock"];
const WORDS: [&str; 32] = [
    "the", "light", "arrives", "early", "and", "every", "room", "keeps", "a", "small", "part", "of", "it", "for",
    "later", "while", "people", "pass", "without", "looking", "up", "from", "their", "work", "which", "never", "quite",
    "ends", "before", "dinner", "or", "rain",
];

/// `count` documents of about 1 KB: users, their orders in sub-collections, products and events. The same for the
/// same seed. They come in no path order.
pub fn sample(
    database: &DatabaseName,
    count: usize,
    seed: u64,
) -> impl Iterator<Item = (DocumentPath, Bytes)> + Send + use<> {
    let database = database.clone();
    (0..count).filter_map(move |index| {
        let (path, fields) = one(&database, index, seed);
        let bytes = document(&database.document_name(&path), fields);
        DocumentPath::new(path).ok().map(|path| (path, bytes))
    })
}

fn one(database: &DatabaseName, index: usize, seed: u64) -> (String, Vec<(&'static str, Encoded)>) {
    let (round, place) = (index / ROUND, index % ROUND);
    let mut random = Xorshift::new(seed, index as u64);
    let user = format!("user-{round:07}");
    match place {
        0 => (format!("users/{user}"), user_fields(&mut random)),
        1..=3 => (format!("users/{user}/orders/order-{place}"), order_fields(database, round, &mut random)),
        4 => (format!("products/{}", product_id(round)), product_fields(&mut random)),
        _ => (format!("events/{:016x}", random.next()), event_fields(database, &user, &mut random)),
    }
}

fn product_id(round: usize) -> String {
    format!("product-{round:07}")
}

fn user_fields(random: &mut Xorshift) -> Vec<(&'static str, Encoded)> {
    let (name, surname) = (random.pick(&NAMES), random.pick(&SURNAMES));
    let (city, latitude, longitude) = *random.pick(&CITIES);
    let address = map([
        ("city", string(city)),
        ("place", geo_point(latitude, longitude)),
        ("street", string(format!("{} Street {}", random.pick(&SURNAMES), random.below(200)))),
    ]);
    vec![
        ("about", string(random.prose(700))),
        ("address", address),
        ("created", random.moment()),
        ("credit", double(random.below(100_000) as f64 / 100.0)),
        ("email", string(format!("{}.{}@mail.example", name.to_lowercase(), surname.to_lowercase()))),
        ("name", string(format!("{name} {surname}"))),
        ("newsletter", boolean(random.below(2) == 0)),
        ("tags", array([string(*random.pick(&WORDS)), string(*random.pick(&WORDS))])),
        ("visits", integer(random.below(10_000) as i64)),
    ]
}

fn order_fields(database: &DatabaseName, round: usize, random: &mut Xorshift) -> Vec<(&'static str, Encoded)> {
    let mut lines = Vec::new();
    for _ in 0..3 {
        let product =
            database.document_name(&format!("products/{}", product_id(random.below(round as u64 + 1) as usize)));
        lines.push(map([
            ("amount", integer(1 + random.below(5) as i64)),
            ("price", double(random.below(50_000) as f64 / 100.0)),
            ("product", reference(product)),
        ]));
    }
    let state = *random.pick(&["placed", "paid", "sent", "delivered", "returned"]);
    vec![
        ("lines", array(lines)),
        ("note", string(random.prose(500))),
        ("placed", random.moment()),
        ("state", string(state)),
        ("total", double(random.below(200_000) as f64 / 100.0)),
    ]
}

fn product_fields(random: &mut Xorshift) -> Vec<(&'static str, Encoded)> {
    let size = map([("height", integer(random.below(200) as i64)), ("width", integer(random.below(200) as i64))]);
    vec![
        ("description", string(random.prose(750))),
        ("name", string(format!("{} {}", random.pick(&SURNAMES), random.pick(&GOODS)))),
        ("price", double(random.below(50_000) as f64 / 100.0)),
        ("size", size),
        ("stock", integer(random.below(1000) as i64)),
    ]
}

fn event_fields(database: &DatabaseName, user: &str, random: &mut Xorshift) -> Vec<(&'static str, Encoded)> {
    let kind = *random.pick(&["view", "search", "cart", "purchase", "login"]);
    vec![
        ("at", random.moment()),
        ("detail", string(random.prose(750))),
        ("kind", string(kind)),
        ("milliseconds", integer(random.below(5000) as i64)),
        ("user", reference(database.document_name(&format!("users/{user}")))),
    ]
}

/// Marsaglia's xorshift64*: fast, seeded, good enough for sample text.
struct Xorshift(u64);

impl Xorshift {
    fn new(seed: u64, index: u64) -> Self {
        // neighbouring seeds are spread by an odd constant and must not meet at zero, where xorshift stands still
        let mixed = (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut random = Self(mixed | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    fn moment(&mut self) -> Encoded {
        timestamp(START + self.below(TWO_YEARS) as i64, self.below(1_000_000) as i32 * 1000)
    }

    fn prose(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(WORDS[self.below(WORDS.len() as u64) as usize]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_decides_and_every_path_is_its_own() {
        let database = DatabaseName::new("p", "(default)");
        let first: Vec<_> = sample(&database, 4000, 7).collect();
        assert_eq!(first, sample(&database, 4000, 7).collect::<Vec<_>>());
        assert_ne!(first, sample(&database, 4000, 8).collect::<Vec<_>>());
        let paths: BTreeSet<_> = first.iter().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), 4000);
    }

    #[test]
    fn documents_are_about_a_kilobyte() {
        let database = DatabaseName::new("p", "(default)");
        let lengths: Vec<usize> = sample(&database, 800, 1).map(|(_, bytes)| bytes.len()).collect();
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((850..1200).contains(&mean), "{mean}");
    }
}
