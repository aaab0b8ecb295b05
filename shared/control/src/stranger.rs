//! Whoever is refused because nobody knows them: one entry an address and minute, so that nobody can fill the table.
//!
//! | partition | sort | holds |
//! |---|---|---|
//! | `STRANGERS#<month>` | `<evt>` | the entry; for 90 days |
//! | `STRANGERS` | `<evt>` | how often they came in that minute; for 90 days |

use firebackup_model::Timestamp;

use crate::actor::Origin;
use crate::audit::{AuditEntry, Refused, id_of, minute};
use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::item_keys;
use crate::month::Month;
use crate::page::{Page, Paged};
use crate::role::Right;
use crate::tenant::Caller;

/// Who they are.
const STRANGER: &str = "stranger";
/// For how long they are remembered.
const KEPT_DAYS: i64 = 90;
/// The most addresses that one process tells apart in a minute; those beyond are one.
const MOST_ADDRESSES: usize = 100;
/// All those beyond.
const OTHERS: &str = "others";

/// The addresses of this minute.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    minute: Option<Timestamp>,
    seen: std::collections::BTreeSet<String>,
}

impl Strangers {
    /// As whom an address counts in a minute.
    pub(crate) fn counted_as(&mut self, minute: Timestamp, address: String) -> String {
        if self.minute != Some(minute) {
            *self = Self { minute: Some(minute), ..Self::default() };
        }
        if self.seen.len() >= MOST_ADDRESSES && !self.seen.contains(&address) {
            return OTHERS.to_owned();
        }
        self.seen.insert(address.clone());
        address
    }
}

impl Control {
    /// Notes that somebody was refused whom nobody knows. Whether that succeeds is of no matter to the request.
    pub async fn note_stranger(&self, origin: &Origin, refused: &Refused<'_>) {
        if let Err(error) = self.try_note_stranger(origin, refused).await {
            tracing::warn!(error = %error, "it cannot be noted that a stranger was refused");
        }
    }

    /// Notes that somebody was refused who is not known by the request: in the audit log of their own organizations where
    /// what they hold proves who they are, else as a stranger. Whether that succeeds is of no matter to the request.
    pub async fn note_holder(&self, bearer: Option<&str>, origin: &Origin, refused: &Refused<'_>) {
        let known = match bearer {
            Some(bearer) => self.proven_by(bearer, origin).await.unwrap_or_default(),
            None => Vec::new(),
        };
        for caller in &known {
            self.note_refused(caller, refused).await;
        }
        if known.is_empty() {
            self.note_stranger(origin, refused).await;
        }
    }

    async fn try_note_stranger(&self, origin: &Origin, refused: &Refused<'_>) -> Result<()> {
        let at = minute(self.now());
        let address = self.stranger_of(at, origin.neighbourhood());
        let id = id_of(at, &[STRANGER, &address]);
        let entry = refused.entry(id, at, STRANGER.to_owned(), Some(address), origin);
        let (key, counter) = (item_keys::stranger(Month::of(at), &entry.id), item_keys::stranger_count(&entry.id));
        self.count_refused(key, counter, &entry, Some(KEPT_DAYS)).await
    }

    /// Strangers of the last 90 days, newest first: of the whole installation, so only its first organization sees them.
    ///
    /// # Errors
    /// [`Forbidden`](crate::Kind::Forbidden) for anybody else; when the page cannot be, or the store fails.
    pub async fn strangers(&self, caller: &Caller, page: &Page) -> Result<Paged<AuditEntry>> {
        caller.may(Right::ManageOrganization)?;
        if self.installation().await? != Some(caller.organization()) {
            return Err(ControlError::forbidden("only the installation's first organization may see this"));
        }
        let now = self.now();
        let months = Month::of(now.plus_seconds(-KEPT_DAYS * 24 * 60 * 60)).until(Month::of(now));
        let queries = months.into_iter().rev().map(|month| (month.to_string(), item_keys::strangers(month))).collect();
        let mut paged = self.list_through(queries, page, |entry: AuditEntry| Some(entry)).await?;
        for entry in &mut paged.items {
            entry.count = Some(self.counted(&item_keys::stranger_count(&entry.id)).await?);
        }
        Ok(paged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_only_so_many_addresses_apart_in_a_minute() {
        let mut strangers = Strangers::default();
        let (first, second) = (Timestamp::new(0, 0), Timestamp::new(60, 0));
        for number in 0..MOST_ADDRESSES {
            assert_eq!(strangers.counted_as(first, number.to_string()), number.to_string());
        }
        assert_eq!(strangers.counted_as(first, "beyond".to_owned()), OTHERS);
        assert_eq!(strangers.counted_as(first, "7".to_owned()), "7");
        assert_eq!(strangers.counted_as(second, "beyond".to_owned()), "beyond");
    }
}
