//! Lists, a page at a time.
//!
//! The cursor is the truth: it goes on exactly where the page before ended, at any depth. Page numbers are for people:
//! they are served by skipping, up to [`MAX_SKIPPED`] entries. A total is given only where there are few entries, so that a
//! page of a list costs the same whatever its length.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use firebackup_model::port::{ItemQuery, MAX_PAGE_ITEMS};
use firebackup_model::{ErrorKind, PortError};
use serde::de::DeserializeOwned;

use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::record::{Stored, decode};

/// The most entries a page may have.
pub const MAX_PAGE_LIMIT: u32 = 100;
/// How far page numbers reach: `page` times `limit` is at most this.
pub const MAX_SKIPPED: u64 = 10_000;
/// The most entries that are counted: counting is reading, and a page must not cost more the more there are.
const MAX_COUNTED: u32 = 100;
/// How often the store is asked for one page, where a filter leaves most entries out.
pub(crate) const MAX_ROUNDS: u32 = 50;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its number, from 1; of no meaning beside a cursor.
    pub page: u32,
    /// How many entries, 1 to 100.
    pub limit: u32,
    /// Where to go on: [`Paged::next`] of the page before.
    pub cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { page: 1, limit: 20, cursor: None }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The entries; fewer than asked for, even none, where a filter leaves most of them out. More follow if `next` says
    /// so.
    pub items: Vec<T>,
    /// The cursor of the next page; nothing at the end.
    pub next: Option<String>,
    /// The number of the page, as asked for.
    pub page: u32,
    /// How many entries were asked for.
    pub limit: u32,
    /// How many there are in all, where that was cheap to count (at most 100, and no cursor was given).
    pub total: Option<u64>,
}

impl Page {
    /// A page by its number.
    #[must_use]
    pub const fn number(page: u32, limit: u32) -> Self {
        Self { page, limit, cursor: None }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=MAX_PAGE_LIMIT).contains(&self.limit) {
            return Err(ControlError::field("limit", format!("expected 1 to {MAX_PAGE_LIMIT}")));
        }
        if self.page < 1 {
            return Err(ControlError::field("page", "pages are counted from 1"));
        }
        if self.cursor.is_none() && u64::from(self.page) * u64::from(self.limit) > MAX_SKIPPED {
            let message = format!("page numbers reach as far as {MAX_SKIPPED} entries; go on with the cursor");
            return Err(ControlError::field("page", message));
        }
        Ok(())
    }

    /// This page of a list that is at hand whole, in the order of its entries' ids.
    pub(crate) fn of<T>(&self, all: Vec<T>, id: impl Fn(&T) -> &str) -> Result<Paged<T>> {
        self.check()?;
        let after = self.cursor.as_deref().map(|cursor| URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong_cursor()));
        let after = after.transpose()?;
        let total = self.cursor.is_none().then_some(all.len() as u64);
        let is_behind = |one: &T| after.as_ref().is_none_or(|after| id(one).as_bytes() > after.as_slice());
        let mut rest = all.into_iter().filter(is_behind).skip(self.skipped() as usize);
        let items: Vec<T> = rest.by_ref().take(self.limit as usize).collect();
        let last = items.last().filter(|_| rest.next().is_some());
        let next = last.map(|last| URL_SAFE_NO_PAD.encode(id(last)));
        Ok(Paged { items, next, page: self.page, limit: self.limit, total })
    }

    /// How many entries come before it.
    pub(crate) const fn skipped(&self) -> u32 {
        if self.cursor.is_some() { 0 } else { (self.page - 1) * self.limit }
    }
}

/// A walk along queries, one after the other. Each has a name, by which a cursor says in which of them it goes on; the only
/// query of a list has none.
struct Walk<'a, P> {
    control: &'a Control,
    name: String,
    query: ItemQuery,
    rest: VecDeque<(String, ItemQuery)>,
    pick: P,
    rounds: u32,
    has_ended: bool,
}

/// What separates the name of a query from its cursor.
const NAMED: char = '~';

impl<P> Walk<'_, P> {
    /// The next `wanted` entries that are picked; fewer at the end, or where too few are picked.
    async fn take<R: DeserializeOwned, T>(&mut self, wanted: u32) -> Result<Vec<T>>
    where
        P: Fn(R) -> Option<T>,
    {
        let mut taken = Vec::new();
        while (taken.len() as u32) < wanted && !self.has_ended && self.rounds < MAX_ROUNDS {
            self.rounds += 1;
            // never more than are still wanted, so that the store's cursor stands right behind the last one taken
            self.query.limit = (wanted - taken.len() as u32).min(MAX_PAGE_ITEMS);
            let page = self.control.items().query(&self.query).await.map_err(refused_cursor)?;
            for item in page.items {
                taken.extend((self.pick)(decode::<R>(item)?.value));
            }
            match page.next {
                Some(next) => self.query.after = Some(next),
                None => self.next_query(),
            }
        }
        Ok(taken)
    }

    fn next_query(&mut self) {
        match self.rest.pop_front() {
            Some((name, query)) => (self.name, self.query) = (name, query),
            None => self.has_ended = true,
        }
    }

    /// Where to go on.
    fn cursor(&self) -> Option<String> {
        let after = self.query.after.as_deref();
        match (self.has_ended, self.name.is_empty()) {
            (true, _) => None,
            (false, true) => after.map(str::to_owned),
            (false, false) => Some(format!("{}{NAMED}{}", self.name, after.unwrap_or_default())),
        }
    }
}

/// The queries that are left behind a cursor.
fn queries_from(
    mut queries: VecDeque<(String, ItemQuery)>,
    cursor: Option<&str>,
) -> Result<VecDeque<(String, ItemQuery)>> {
    let Some(cursor) = cursor else { return Ok(queries) };
    let (name, after) = match queries.front() {
        Some((name, _)) if name.is_empty() => ("", Some(cursor)),
        _ => {
            let (name, after) = cursor.split_once(NAMED).ok_or_else(wrong_cursor)?;
            // nothing behind the name: from the beginning of that query on
            (name, Some(after).filter(|after| !after.is_empty()))
        }
    };
    while queries.front().is_some_and(|(found, _)| found != name) {
        queries.pop_front();
    }
    let (_, query) = queries.front_mut().ok_or_else(wrong_cursor)?;
    query.after = after.map(str::to_owned);
    Ok(queries)
}

pub(crate) fn wrong_cursor() -> ControlError {
    ControlError::new(Kind::Invalid, Code::InvalidCursor, "the cursor is not one of this list")
}

fn refused_cursor(error: PortError) -> ControlError {
    match error.kind {
        ErrorKind::InvalidArgument => wrong_cursor().with_source(error),
        _ => error.into(),
    }
}

impl Control {
    /// A page of the records of a query, of those that are picked.
    pub(crate) async fn list<R, T, P>(&self, query: ItemQuery, page: &Page, pick: P) -> Result<Paged<T>>
    where
        R: DeserializeOwned,
        P: Fn(R) -> Option<T>,
    {
        self.list_through(VecDeque::from([(String::new(), query)]), page, pick).await
    }

    /// The same through several queries, one after the other, each with a name of its own.
    pub(crate) async fn list_through<R, T, P>(
        &self,
        queries: VecDeque<(String, ItemQuery)>,
        page: &Page,
        pick: P,
    ) -> Result<Paged<T>>
    where
        R: DeserializeOwned,
        P: Fn(R) -> Option<T>,
    {
        page.check()?;
        let counted = (queries.len() == 1).then(|| queries[0].1.clone());
        let mut rest = queries_from(queries, page.cursor.as_deref())?;
        let Some((name, query)) = rest.pop_front() else {
            return Ok(Paged { items: Vec::new(), next: None, page: page.page, limit: page.limit, total: Some(0) });
        };
        let mut walk = Walk { control: self, name, query, rest, pick, rounds: 0, has_ended: false };
        let skipped = walk.take::<R, T>(page.skipped()).await?.len() as u64;
        let items = walk.take::<R, T>(page.limit).await?;
        let total = match (&page.cursor, walk.has_ended, counted) {
            (None, true, _) => Some(skipped + items.len() as u64),
            (None, false, Some(counted)) => self.count(counted, &walk.pick).await?,
            _ => None,
        };
        Ok(Paged { items, next: walk.cursor(), page: page.page, limit: page.limit, total })
    }

    /// How many there are, where they are few.
    async fn count<R, T, P>(&self, query: ItemQuery, pick: P) -> Result<Option<u64>>
    where
        R: DeserializeOwned,
        P: Fn(R) -> Option<T>,
    {
        let page = self.items().query(&ItemQuery { limit: MAX_COUNTED + 1, ..query }).await?;
        if page.next.is_some() || page.items.len() > MAX_COUNTED as usize {
            return Ok(None);
        }
        let mut total = 0;
        for item in page.items {
            total += u64::from(pick(decode::<R>(item)?.value).is_some());
        }
        Ok(Some(total))
    }

    /// How many items a query finds, and whether there are more: it stops counting at the page that reaches `most`.
    pub(crate) async fn count_up_to(&self, mut query: ItemQuery, most: u64) -> Result<(u64, bool)> {
        let mut count = 0;
        loop {
            let page = self.items().query(&query).await?;
            count += page.items.len() as u64;
            query.after = page.next;
            if query.after.is_none() || count >= most {
                return Ok((count, query.after.is_some()));
            }
        }
    }

    /// All records of a query, for verbs that must look at every one.
    pub(crate) async fn all<R: DeserializeOwned>(&self, mut query: ItemQuery) -> Result<Vec<Stored<R>>> {
        let mut all = Vec::new();
        loop {
            let page = self.items().query(&query).await?;
            for item in page.items {
                all.push(decode(item)?);
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of a list, page by page.
    fn walked(all: &[&'static str], limit: u32) -> Vec<Vec<&'static str>> {
        let (mut pages, mut page) = (Vec::new(), Page::number(1, limit));
        loop {
            let paged = page.of(all.to_vec(), |one| one).unwrap();
            pages.push(paged.items);
            match paged.next {
                Some(next) => page.cursor = Some(next),
                None => return pages,
            }
        }
    }

    #[test]
    fn a_list_at_hand_is_shown_by_number_and_by_cursor() {
        let all = ["a", "b/ü", "c", "d"];
        assert_eq!(walked(&all, 3), [&all[..3], &all[3..]]);
        assert_eq!(walked(&all, 4), [&all]);
        assert_eq!(walked(&[], 4), [[""; 0]]);
        let second = Page::number(2, 3).of(all.to_vec(), |one| one).unwrap();
        assert_eq!((second.items, second.total, second.next), (vec!["d"], Some(4), None));
        let first = Page::number(1, 2).of(all.to_vec(), |one| one).unwrap();
        let page = Page { cursor: first.next, ..Page::number(1, 2) };
        let rest = page.of(vec!["a", "c", "d"], |one| one).unwrap();
        assert_eq!((rest.items, rest.total), (vec!["c", "d"], None), "what stood at the cursor may be gone");
        let wrong = Page { cursor: Some("=".to_owned()), ..Page::default() };
        assert_eq!(wrong.of(vec!["a"], |one| one).unwrap_err().code, Code::InvalidCursor);
    }
}
