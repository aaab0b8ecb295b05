//! What a restore wants the target to hold, document by document, in the target's path order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use firebackup_codec::rewrite::{ReferenceMap, rewrite};
use firebackup_model::job::{RestoreMode, RestorePart, RestorePosition};
use firebackup_model::range::{intersect, without};
use firebackup_model::selection::Filter;
use firebackup_model::{DocumentPath, PathRange, RangeStart, Selection, Timestamp};

use crate::contents::{Contents, Item, Stored};
use crate::error::{EngineError, Result};
use crate::repository::Repository;
use crate::restore::Target;
use crate::world::Meter;

/// One document of the target, as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) path: DocumentPath,
    /// Its bytes under its new name; nothing when it should not exist.
    pub(crate) document: Option<Bytes>,
    /// Which part of the selection it belongs to.
    pub(crate) segment: u32,
    /// Why it cannot be put into the target: then `path` is that of the snapshot, and nothing is to be done about it.
    pub(crate) problem: Option<String>,
}

impl Wanted {
    /// Its place in the order in which it is wanted.
    pub(crate) fn position(&self) -> RestorePosition {
        RestorePosition { segment: self.segment, path: self.path.clone() }
    }

    /// The same, if it is one behind which to go on later: what has no place in the target has none in its order.
    pub(crate) fn resumable_position(&self) -> Option<RestorePosition> {
        self.problem.is_none().then(|| self.position())
    }
}

/// A part of the snapshot that moves as one: within it, the order of paths is the same in source and target.
#[derive(Debug, Clone)]
struct Segment {
    number: u32,
    ranges: Vec<PathRange>,
    /// From, to.
    rename: Option<(String, String)>,
}

/// A stream of [`Wanted`], segment by segment.
pub(crate) struct WantedStream {
    repository: Repository,
    stored: Stored,
    selection: Selection,
    filter: Filter,
    /// What the snapshot was made of: a mirror deletes nothing that was never backed up.
    covered: Filter,
    map: ReferenceMap,
    /// Whether names and references stay as they are.
    unchanged: bool,
    target: Target,
    mirror_at: Option<Timestamp>,
    meter: Arc<Meter>,
    segments: VecDeque<Segment>,
    current: Option<Join>,
}

/// The open segment: what the snapshot holds, and with `mirror` what the target holds.
struct Join {
    segment: Segment,
    snapshot: Contents,
    target: Option<Contents>,
    next_snapshot: Option<Item>,
    next_target: Option<Item>,
}

impl WantedStream {
    /// What `stored` wants of `target`. With `mirror`, documents that it does not hold are wanted gone.
    pub(crate) async fn new(
        repository: &Repository,
        stored: Stored,
        selection: &Selection,
        renames: &[(String, String)],
        mode: RestoreMode,
        target: &Target,
        meter: &Arc<Meter>,
    ) -> Result<Self> {
        if stored.is_undo && mode == RestoreMode::Mirror {
            return Err(EngineError::Refused(
                "an undo holds only what a restore replaced: it cannot be mirrored".to_owned(),
            ));
        }
        let to = target.sink.database().clone();
        let unchanged = stored.source == to && renames.is_empty();
        let map = ReferenceMap { from: stored.source.clone(), to, renames: renames.to_vec() };
        let mirror_at = match mode {
            RestoreMode::Mirror => Some(target.source.snapshot_time().await?),
            RestoreMode::Overwrite | RestoreMode::SkipExisting => None,
        };
        Ok(Self {
            repository: repository.clone(),
            filter: selection.filter()?,
            covered: stored.selection.filter()?,
            segments: segments(selection, renames)?.into(),
            stored,
            selection: selection.clone(),
            map,
            unchanged,
            target: target.clone(),
            mirror_at,
            meter: Arc::clone(meter),
            current: None,
        })
    }

    /// Only what one part of the restore wants, from behind `after` on.
    pub(crate) fn of_part(mut self, part: &RestorePart, after: Option<&RestorePosition>) -> Result<Self> {
        let segment = self.segments.iter().find(|segment| segment.number == part.segment).cloned();
        let mut segment = segment.ok_or_else(|| {
            EngineError::Refused(format!("the restore has no segment {}: its plan is that of another", part.segment))
        })?;
        segment.ranges = intersect(&segment.ranges, &part.ranges);
        if let Some(after) = after {
            let last = segment.source_path(&after.path)?;
            segment.ranges = segment.ranges.iter().filter_map(|range| rest_of(range, &last)).collect();
        }
        self.segments = [segment].into();
        Ok(self)
    }

    /// The next wanted document; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Wanted>> {
        loop {
            let mut join = match self.current.take() {
                Some(join) => join,
                None => match self.segments.pop_front() {
                    None => return Ok(None),
                    Some(segment) => self.open(segment).await?,
                },
            };
            let wanted = self.step(&mut join).await?;
            if wanted.is_some() {
                self.current = Some(join);
                return Ok(wanted);
            }
        }
    }

    /// The patterns of the selection that have fitted no document so far, of the snapshot or, with `mirror`, of the target.
    pub(crate) fn unmatched(&self) -> Vec<String> {
        self.filter.unmatched()
    }

    async fn open(&mut self, segment: Segment) -> Result<Join> {
        let layers = self.stored.layers.clone();
        let mut snapshot = Contents::of_layers(&self.repository, layers, &self.selection, &self.meter)?
            .asking(&self.filter)
            .within(segment.ranges.clone());
        let mut target = match self.mirror_at {
            None => None,
            Some(at) => Some(self.live(at, &segment)?),
        };
        let next_snapshot = snapshot.next().await?;
        let next_target = match &mut target {
            None => None,
            Some(target) => target.next().await?,
        };
        Ok(Join { segment, snapshot, target, next_snapshot, next_target })
    }

    fn live(&self, at: Timestamp, segment: &Segment) -> Result<Contents> {
        let ranges = match &segment.rename {
            // what renames write is theirs to compare
            None => self.map.renames.iter().try_fold(segment.ranges.clone(), |ranges, (_, to)| {
                Ok::<_, EngineError>(without(&ranges, &collection(to)?))
            })?,
            Some((from, to)) => moved(&segment.ranges, &collection(from)?, &collection(to)?, from, to)?,
        };
        let source = Arc::clone(&self.target.source);
        let everything = Selection::default();
        Ok(Contents::of_database(source, at, &everything, self.repository.world(), &self.meter)?
            .within(ranges)
            .reanchoring())
    }

    async fn step(&mut self, join: &mut Join) -> Result<Option<Wanted>> {
        loop {
            let wanted = match &join.next_snapshot {
                None => None,
                Some(item) => Some(self.wanted(&join.segment, item)?),
            };
            let extra = match (&join.next_target, &wanted) {
                // it stands nowhere in the target's order
                (_, Some(Wanted { problem: Some(_), .. })) => false,
                (None, None) => return Ok(None),
                (None, Some(_)) => false,
                (Some(_), None) => true,
                (Some(there), Some(wanted)) if there.path == wanted.path => {
                    join.advance_target().await?;
                    continue;
                }
                (Some(there), Some(wanted)) => there.path < wanted.path,
            };
            if !extra {
                join.next_snapshot = join.snapshot.next().await?;
                return Ok(wanted);
            }
            let there = join.advance_target().await?;
            if let Some(there) = there
                && self.is_selected(&join.segment, &there.path)
            {
                let segment = join.segment.number;
                return Ok(Some(Wanted { path: there.path, document: None, segment, problem: None }));
            }
        }
    }

    /// Whether a document of the target lies in the selection, which speaks of the snapshot's paths.
    fn is_selected(&self, segment: &Segment, path: &DocumentPath) -> bool {
        let original = segment.source_path(path);
        original.is_ok_and(|original| self.filter.selects(&original) && self.covered.selects(&original))
    }

    fn wanted(&self, segment: &Segment, item: &Item) -> Result<Wanted> {
        let is_in =
            |collection: &str| item.path.as_str().strip_prefix(collection).is_some_and(|rest| rest.starts_with('/'));
        if segment.rename.is_none()
            && let Some((from, to)) = self.map.renames.iter().find(|(_, to)| is_in(to))
        {
            return Err(in_the_way(&item.path, from, to));
        }
        if self.unchanged {
            let (path, document) = (item.path.clone(), item.document.clone());
            return Ok(Wanted { path, document, segment: segment.number, problem: None });
        }
        let moved = self.moved(item);
        let segment = segment.number;
        Ok(moved.map_or_else(
            |problem| Wanted { path: item.path.clone(), document: None, segment, problem: Some(problem) },
            |(path, document)| Wanted { path, document, segment, problem: None },
        ))
    }

    /// The document under its new path, or why it cannot be put there.
    fn moved(&self, item: &Item) -> Result<(DocumentPath, Option<Bytes>), String> {
        let path = self.map.path(&item.path).map_err(|error| format!("cannot be put under its new path: {error}"))?;
        let rewritten = item.document.as_ref().map(|document| self.rewritten(&path, document));
        let document = rewritten.transpose().map_err(|error| error.in_full())?;
        Ok((path, document))
    }

    fn rewritten(&self, path: &DocumentPath, document: &Bytes) -> Result<Bytes> {
        let name = self.map.to.document_name(path.as_str());
        let rewritten = rewrite(document, Some(&name), &mut |reference| self.map.target(reference))
            .map_err(|source| EngineError::Rewrite { path: path.to_string(), source })?;
        Ok(match rewritten {
            std::borrow::Cow::Borrowed(_) => document.clone(),
            std::borrow::Cow::Owned(bytes) => bytes.into(),
        })
    }
}

impl Segment {
    /// Where a document of the target stands in the snapshot.
    fn source_path(&self, path: &DocumentPath) -> Result<DocumentPath> {
        match &self.rename {
            None => Ok(path.clone()),
            Some((from, to)) => with_prefix(path, to, from),
        }
    }
}

/// The path with `from` at its beginning replaced.
fn with_prefix(path: &DocumentPath, from: &str, to: &str) -> Result<DocumentPath> {
    let rest = path.as_str().strip_prefix(from).filter(|rest| rest.starts_with('/'));
    let renamed = rest.and_then(|rest| DocumentPath::new(format!("{to}{rest}")).ok());
    renamed.ok_or_else(|| EngineError::Refused(format!("`{path}` does not lie in `{from}`")))
}

/// What of a range lies behind `last`.
fn rest_of(range: &PathRange, last: &DocumentPath) -> Option<PathRange> {
    if range.behind_all_of(last) {
        return Some(range.clone());
    }
    Some(range.behind(last.clone())).filter(|rest| !rest.is_empty())
}

/// Ranges of the collection `from` as they stand in `to`.
fn moved(
    ranges: &[PathRange],
    from_range: &PathRange,
    to_range: &PathRange,
    from: &str,
    to: &str,
) -> Result<Vec<PathRange>> {
    let moved = |range: &PathRange| {
        let start = match &range.start {
            start if *start == from_range.start => to_range.start.clone(),
            RangeStart::Beginning => to_range.start.clone(),
            RangeStart::At(path) => RangeStart::At(with_prefix(path, from, to)?),
            RangeStart::After(path) => RangeStart::After(with_prefix(path, from, to)?),
        };
        let end = match &range.end {
            end if *end == from_range.end => to_range.end.clone(),
            None => to_range.end.clone(),
            Some(path) => Some(with_prefix(path, from, to)?),
        };
        Ok(PathRange { start, end })
    };
    ranges.iter().map(moved).collect()
}

impl Join {
    async fn advance_target(&mut self) -> Result<Option<Item>> {
        let next = match &mut self.target {
            None => None,
            Some(target) => target.next().await?,
        };
        Ok(std::mem::replace(&mut self.next_target, next))
    }
}

/// What a snapshot holds itself where a renamed collection goes.
pub(crate) fn in_the_way(path: &DocumentPath, from: &str, to: &str) -> EngineError {
    EngineError::Refused(format!(
        "the snapshot holds `{path}` itself, which `{from}` renamed to `{to}` may overwrite: exclude `{to}` or choose another \
         name"
    ))
}

pub(crate) fn collection(path: &str) -> Result<PathRange> {
    PathRange::collection(path).map_err(|_| EngineError::Refused(format!("`{path}` is not a collection")))
}

/// The parts of a restore, cut at `points` (paths of the snapshot): they tile what is put back.
pub(crate) fn parts(
    selection: &Selection,
    renames: &[(String, String)],
    points: &[DocumentPath],
) -> Result<Vec<RestorePart>> {
    let mut parts = Vec::new();
    for Segment { number: segment, ranges, .. } in segments(selection, renames)? {
        let cut = ranges.iter().flat_map(|range| range.cut(points));
        parts.extend(cut.map(|range| RestorePart { segment, ranges: vec![range] }));
    }
    Ok(parts)
}

/// Splits the selection into what keeps its path and what each rename moves.
fn segments(selection: &Selection, renames: &[(String, String)]) -> Result<Vec<Segment>> {
    let mut rest = selection.ranges()?;
    let mut segments = Vec::new();
    for (from, to) in renames {
        let (from_range, _) = (collection(from)?, collection(to)?);
        let inside = intersect(&rest, std::slice::from_ref(&from_range));
        if !inside.is_empty() {
            let number = segments.len() as u32;
            segments.push(Segment { number, ranges: inside, rename: Some((from.clone(), to.clone())) });
        }
        rest = without(&rest, &from_range);
    }
    segments.push(Segment { number: segments.len() as u32, ranges: rest, rename: None });
    Ok(segments)
}

/// Refuses renames that nest, collide or name no collection.
///
/// # Errors
/// [`EngineError::Refused`], with which and why.
pub fn check_renames(renames: &[(String, String)]) -> Result<()> {
    let nested = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    for (index, (from, to)) in renames.iter().enumerate() {
        collection(from)?;
        collection(to)?;
        let others = renames.iter().enumerate().filter(|(other, _)| *other != index);
        let mut clashes =
            others.map(|(_, (f, t))| nested(from, f) || nested(f, from) || nested(to, t) || nested(t, to));
        if clashes.any(|clash| clash) || nested(to, from) && to != from || nested(from, to) && to != from {
            return Err(EngineError::Refused(format!(
                "the renaming of `{from}` to `{to}` collides with another one or with itself"
            )));
        }
    }
    Ok(())
}
