//! Tries again what can succeed later. It wraps a port and knows nothing of what is behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use firebackup_model::database::DatabaseName;
use firebackup_model::document::RawDocument;
use firebackup_model::error::PortError;
use firebackup_model::path::DocumentPath;
use firebackup_model::port::{
    ChangeSource, ChangeStream, DocumentSink, DocumentSource, DocumentStream, ListenFrom, UserFailure, UserPage,
    UserRecord, UserSink, UserSource, Write, WriteOutcome,
};
use firebackup_model::range::PathRange;
use firebackup_model::timestamp::Timestamp;

/// How often and how patiently a call is tried.
///
/// The pause before try n + 1 is a random part of `base * 2^(n-1)`, at most of `cap`: whole randomness keeps many
/// workers that failed together from coming back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least one is made.
    pub attempts: usize,
    /// The longest first pause.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// Eight tries within at most about a minute and a half.
    fn default() -> Self {
        Self { attempts: 8, base: Duration::from_millis(250), cap: Duration::from_secs(32) }
    }
}

impl RetryPolicy {
    fn pauses(&self) -> impl BackoffBuilder + use<> {
        let pauses = ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(self.base)
            .with_max_delay(self.cap)
            .with_max_times(self.attempts.saturating_sub(1));
        pauses.build().map(|longest| longest.mul_f64(rand::random::<f64>()))
    }
}

/// A port that tries its calls again when they fail in a way that can pass.
///
/// A stream is tried again until it is open, never in its middle: only its reader knows how far it came. A batch of
/// writes is tried again when the call failed as a whole, so a write whose answer was lost is sent twice, and one
/// that must be absent then finds itself (`AlreadyExists`). The outcomes of single writes are the caller's.
#[derive(Debug, Clone)]
pub struct Retrying<T> {
    inner: T,
    policy: RetryPolicy,
}

impl<T> Retrying<T> {
    /// Wraps `inner` with the usual patience.
    pub fn new(inner: T) -> Self {
        Self::with_policy(inner, RetryPolicy::default())
    }

    /// Wraps `inner` with a patience of your own.
    pub const fn with_policy(inner: T, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// What is wrapped.
    pub const fn inner(&self) -> &T {
        &self.inner
    }

    pub(crate) async fn retry<A, F>(&self, call: impl FnMut() -> F) -> Result<A, PortError>
    where
        F: Future<Output = Result<A, PortError>>,
    {
        call.retry(self.policy.pauses()).when(PortError::can_be_retried).await
    }
}

#[async_trait]
impl<T: DocumentSource> DocumentSource for Retrying<T> {
    fn database(&self) -> &DatabaseName {
        self.inner.database()
    }

    async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
        self.retry(|| self.inner.snapshot_time()).await
    }

    async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
        self.retry(|| self.inner.versions_since()).await
    }

    async fn split_points(
        &self,
        range: &PathRange,
        wanted: usize,
        at: Timestamp,
    ) -> Result<Vec<DocumentPath>, PortError> {
        self.retry(|| self.inner.split_points(range, wanted, at)).await
    }

    async fn stream(&self, range: &PathRange, at: Timestamp, limit: Option<u32>) -> Result<DocumentStream, PortError> {
        self.retry(|| self.inner.stream(range, at, limit)).await
    }

    async fn count(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.retry(|| self.inner.count(range, at)).await
    }

    async fn count_surely(&self, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.retry(|| self.inner.count_surely(range, at)).await
    }

    fn counts_by_reading(&self) -> bool {
        self.inner.counts_by_reading()
    }

    async fn get(&self, paths: &[DocumentPath], at: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
        self.retry(|| self.inner.get(paths, at)).await
    }
}

#[async_trait]
impl<T: DocumentSink> DocumentSink for Retrying<T> {
    fn database(&self) -> &DatabaseName {
        self.inner.database()
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
        self.retry(|| self.inner.write(writes.clone())).await
    }

    async fn can_write(&self) -> Result<(), PortError> {
        self.retry(|| self.inner.can_write()).await
    }
}

#[async_trait]
impl<T: ChangeSource> ChangeSource for Retrying<T> {
    async fn listen(&self, groups: &BTreeSet<String>, from: ListenFrom) -> Result<ChangeStream, PortError> {
        self.retry(|| self.inner.listen(groups, from.clone())).await
    }

    async fn count_group(&self, group: &str, range: &PathRange, at: Timestamp) -> Result<u64, PortError> {
        self.retry(|| self.inner.count_group(group, range, at)).await
    }

    async fn stream_group(&self, group: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
        self.retry(|| self.inner.stream_group(group, at)).await
    }
}

#[async_trait]
impl<T: UserSource> UserSource for Retrying<T> {
    async fn hash_config(&self) -> Result<Option<serde_json::Value>, PortError> {
        self.retry(|| self.inner.hash_config()).await
    }

    async fn tenants(&self) -> Result<Vec<String>, PortError> {
        self.retry(|| self.inner.tenants()).await
    }

    async fn page(&self, tenant: Option<&str>, token: Option<&str>) -> Result<UserPage, PortError> {
        self.retry(|| self.inner.page(tenant, token)).await
    }
}

#[async_trait]
impl<T: UserSink> UserSink for Retrying<T> {
    async fn create(
        &self,
        tenant: Option<&str>,
        users: &[UserRecord],
        hash_config: Option<&serde_json::Value>,
        overwrite: bool,
    ) -> Result<Vec<UserFailure>, PortError> {
        self.retry(|| self.inner.create(tenant, users, hash_config, overwrite)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use bytes::Bytes;
    use firebackup_model::error::ErrorKind;
    use futures::StreamExt;

    /// Fails with these, the last one first, then succeeds.
    struct Failing {
        failures: Mutex<Vec<ErrorKind>>,
        calls: Mutex<usize>,
        database: DatabaseName,
    }

    impl Failing {
        fn with(failures: &[ErrorKind]) -> Retrying<Self> {
            Retrying::new(Self {
                failures: Mutex::new(failures.to_vec()),
                calls: Mutex::new(0),
                database: DatabaseName::new("p", "d"),
            })
        }

        fn call<A>(&self, answer: A) -> Result<A, PortError> {
            *self.calls.lock().unwrap() += 1;
            match self.failures.lock().unwrap().pop() {
                Some(kind) => Err(PortError::new(kind, "try", "")),
                None => Ok(answer),
            }
        }
    }

    impl Retrying<Failing> {
        fn calls(&self) -> usize {
            *self.inner.calls.lock().unwrap()
        }
    }

    #[async_trait]
    impl DocumentSource for Failing {
        fn database(&self) -> &DatabaseName {
            &self.database
        }

        async fn snapshot_time(&self) -> Result<Timestamp, PortError> {
            self.call(Timestamp::default())
        }

        async fn versions_since(&self) -> Result<Option<Timestamp>, PortError> {
            self.call(None)
        }

        async fn split_points(&self, _: &PathRange, _: usize, _: Timestamp) -> Result<Vec<DocumentPath>, PortError> {
            self.call(vec![])
        }

        async fn stream(&self, _: &PathRange, _: Timestamp, _: Option<u32>) -> Result<DocumentStream, PortError> {
            let broken = Err(PortError::new(ErrorKind::Unavailable, "read on", ""));
            self.call(futures::stream::iter([broken]).boxed())
        }

        async fn count(&self, _: &PathRange, _: Timestamp) -> Result<u64, PortError> {
            self.call(7)
        }

        async fn count_surely(&self, _: &PathRange, _: Timestamp) -> Result<u64, PortError> {
            self.call(8)
        }

        fn counts_by_reading(&self) -> bool {
            true
        }

        async fn get(&self, _: &[DocumentPath], _: Option<Timestamp>) -> Result<Vec<Option<RawDocument>>, PortError> {
            self.call(vec![])
        }
    }

    #[async_trait]
    impl ChangeSource for Failing {
        async fn listen(&self, _: &BTreeSet<String>, _: ListenFrom) -> Result<ChangeStream, PortError> {
            let broken = Err(PortError::new(ErrorKind::Unavailable, "listen on", ""));
            self.call(futures::stream::iter([broken]).boxed())
        }

        async fn count_group(&self, _: &str, _: &PathRange, _: Timestamp) -> Result<u64, PortError> {
            self.call(7)
        }

        async fn stream_group(&self, _: &str, at: Timestamp) -> Result<DocumentStream, PortError> {
            self.stream(&PathRange::everything(), at, None).await
        }
    }

    #[async_trait]
    impl DocumentSink for Failing {
        fn database(&self) -> &DatabaseName {
            &self.database
        }

        async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteOutcome>, PortError> {
            let outcome = |_| Err(PortError::new(ErrorKind::Aborted, "write one", ""));
            self.call(writes.into_iter().map(outcome).collect())
        }

        async fn can_write(&self) -> Result<(), PortError> {
            self.call(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn passing_failures_are_tried_again() {
        let source = Failing::with(&[ErrorKind::Unavailable, ErrorKind::ResourceExhausted, ErrorKind::Internal]);
        assert_eq!(source.count(&PathRange::everything(), Timestamp::default()).await.unwrap(), 7);
        assert_eq!(source.calls(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn counting_is_left_to_what_is_wrapped() {
        let source = Failing::with(&[ErrorKind::Unavailable]);
        assert_eq!(source.count_surely(&PathRange::everything(), Timestamp::default()).await.unwrap(), 8);
        assert_eq!((source.calls(), source.counts_by_reading()), (2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_failures_are_not() {
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadTimeTooOld, ErrorKind::InvalidArgument] {
            let source = Failing::with(&[kind]);
            assert_eq!(source.snapshot_time().await.unwrap_err().kind, kind);
            assert_eq!(source.calls(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_within_its_bound() {
        let source = Failing::with(&[ErrorKind::Unavailable; 100]);
        let begin = tokio::time::Instant::now();
        assert_eq!(source.get(&[], None).await.unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(source.calls(), RetryPolicy::default().attempts);
        assert!(begin.elapsed() < Duration::from_secs(64), "{:?}", begin.elapsed());
        let once = RetryPolicy { attempts: 0, ..RetryPolicy::default() };
        let source = Retrying::with_policy(source.inner, once);
        assert!(source.get(&[], None).await.is_err());
        assert_eq!(source.calls(), RetryPolicy::default().attempts + 1);
    }

    #[test]
    fn pauses_are_random_and_bounded() {
        let policy = RetryPolicy { attempts: 20, ..RetryPolicy::default() };
        let pauses: Vec<Duration> = policy.pauses().build().collect();
        assert_eq!(pauses.len(), 19);
        let mut longest = policy.base;
        for pause in &pauses {
            assert!(*pause <= longest, "{pause:?} > {longest:?}");
            longest = (longest * 2).min(policy.cap);
        }
        assert_ne!(pauses, policy.pauses().build().collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_retried_until_it_is_open_and_not_in_its_middle() {
        let source = Failing::with(&[ErrorKind::Unavailable]);
        let mut stream = source.stream(&PathRange::everything(), Timestamp::default(), None).await.unwrap();
        assert_eq!(source.calls(), 2);
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
        assert!(stream.next().await.is_none());
        assert_eq!(source.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn listening_is_retried_until_it_is_open_and_not_in_its_middle() {
        let source = Failing::with(&[ErrorKind::Unavailable, ErrorKind::ResourceExhausted]);
        let mut changes = source.listen(&BTreeSet::new(), ListenFrom::Token(Bytes::new())).await.unwrap();
        assert_eq!(source.calls(), 3);
        assert_eq!(changes.next().await.unwrap().unwrap_err().kind, ErrorKind::Unavailable);
        assert!(changes.next().await.is_none());
        assert_eq!(source.calls(), 3);
        let refused = Failing::with(&[ErrorKind::PermissionDenied]);
        let error = refused.listen(&BTreeSet::new(), ListenFrom::Token(Bytes::new())).await.err().unwrap();
        assert_eq!((error.kind, refused.calls()), (ErrorKind::PermissionDenied, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_counted_and_opened_again() {
        let (at, everything) = (Timestamp::default(), PathRange::everything());
        let source = Failing::with(&[ErrorKind::Unavailable]);
        assert_eq!(source.count_group("orders", &everything, at).await.unwrap(), 7);
        assert_eq!(source.calls(), 2);
        let source = Failing::with(&[ErrorKind::Unavailable]);
        let mut stream = source.stream_group("orders", at).await.unwrap();
        assert_eq!(source.calls(), 2);
        assert!(stream.next().await.unwrap().is_err() && stream.next().await.is_none());
        assert_eq!(source.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_of_a_batch_that_came_back_is_the_callers() {
        let sink = Failing::with(&[ErrorKind::Unavailable]);
        let path = DocumentPath::new("a/b").unwrap();
        let write = Write { path, document: None, precondition: firebackup_model::port::Precondition::None };
        let outcomes = sink.write(vec![write]).await.unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap_err().kind, ErrorKind::Aborted);
        assert_eq!(sink.calls(), 2);
    }
}
