//! The other ports of the control plane in memory: what was asked of them can be looked at, and they can be told to fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use firebackup_model::port::{
    DomainEvent, EncryptionContext, EventBus, JobQueue, KeyBytes, KeyService, MAX_DELAY, MAX_MESSAGE_BYTES,
    MAX_MESSAGES, Message, Random, ScheduleRule, Scheduler, Started, Turn, Workflow, WorkflowState, Workflows,
    WrappedKey,
};
use firebackup_model::{ErrorKind, PortError};
use serde_json::Value;
use tokio::time::Instant;

/// How often a message is delivered before it goes to the dead letters.
const MAX_DELIVERIES: u32 = 5;
/// The master key where none is named.
const OWN_MASTER: &str = "memory:master";
/// Another master key that [`MemoryKeys`] knows.
pub const OTHER_MASTER: &str = "arn:aws:kms:eu-west-1:111122223333:key/other";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that look random, never repeat, and are the same in every run.
#[derive(Default)]
pub struct CountedRandom(AtomicU64);

impl Random for CountedRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mixed = splitmix(self.0.fetch_add(1, Ordering::SeqCst)).to_le_bytes();
            chunk.copy_from_slice(&mixed[..chunk.len()]);
        }
    }
}

/// The finalizer of SplitMix64: one to one, so that numbers that differ stay so.
pub(crate) const fn splitmix(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether calls are to fail, and with what.
#[derive(Default)]
struct Trouble(Mutex<Option<ErrorKind>>);

impl Trouble {
    fn set(&self, kind: Option<ErrorKind>) {
        *lock(&self.0) = kind;
    }

    fn check(&self, operation: &str) -> Result<(), PortError> {
        match *lock(&self.0) {
            Some(kind) => Err(PortError::new(kind, operation, "told to fail")),
            None => Ok(()),
        }
    }
}

struct Waiting {
    body: String,
    visible: Instant,
    deliveries: u32,
    receipt: Option<String>,
}

/// A queue.
#[derive(Default)]
pub struct MemoryQueue {
    waiting: Mutex<Vec<Waiting>>,
    dead: Mutex<VecDeque<String>>,
    /// Of those that were sent in turn. No time passes here: they are never forgotten.
    ids: Mutex<BTreeSet<String>>,
    receipts: AtomicU64,
    trouble: Trouble,
}

impl MemoryQueue {
    /// Has calls fail from now on, or not any more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        self.trouble.set(kind);
    }

    /// The bodies of all messages that wait, in the order they were sent; takes them out.
    #[must_use]
    pub fn drain(&self) -> Vec<String> {
        lock(&self.waiting).drain(..).map(|waiting| waiting.body).collect()
    }

    /// Takes what may be delivered now; what was delivered too often goes to the dead letters.
    fn take(&self, most: usize, hidden: Duration) -> Vec<Message> {
        let now = Instant::now();
        let mut waiting = lock(&self.waiting);
        let (tired, alive): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|message| message.visible <= now && message.deliveries >= MAX_DELIVERIES);
        lock(&self.dead).extend(tired.into_iter().map(|message| message.body));
        *waiting = alive;
        let due = waiting.iter_mut().filter(|message| message.visible <= now).take(most);
        let deliver = |message: &mut Waiting| {
            let receipt = self.receipts.fetch_add(1, Ordering::SeqCst).to_string();
            message.visible = now + hidden;
            message.deliveries += 1;
            message.receipt = Some(receipt.clone());
            Message { body: message.body.clone(), receipt, deliveries: message.deliveries }
        };
        due.map(deliver).collect()
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn send(&self, body: &str, delay: Duration) -> Result<(), PortError> {
        self.trouble.check("send a message")?;
        if body.is_empty() || body.len() > MAX_MESSAGE_BYTES || delay > MAX_DELAY {
            let message = "it is empty, too large or too late";
            return Err(PortError::new(ErrorKind::InvalidArgument, "send a message", message));
        }
        let visible = Instant::now() + delay;
        lock(&self.waiting).push(Waiting { body: body.to_owned(), visible, deliveries: 0, receipt: None });
        Ok(())
    }

    async fn send_in_turn(&self, body: &str, turn: Turn<'_>) -> Result<(), PortError> {
        self.trouble.check("send a message")?;
        let is_new = lock(&self.ids).insert(turn.id.to_owned());
        match is_new {
            true => self.send(body, Duration::ZERO).await,
            false => Ok(()),
        }
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Message>, PortError> {
        self.trouble.check("receive messages")?;
        // as a call over a network does: otherwise the first of several consumers would take all
        tokio::task::yield_now().await;
        let end = Instant::now() + wait;
        loop {
            let messages = self.take(most.min(MAX_MESSAGES), hidden);
            if !messages.is_empty() || Instant::now() >= end {
                return Ok(messages);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn delete(&self, receipt: &str) -> Result<(), PortError> {
        self.trouble.check("delete a message")?;
        lock(&self.waiting).retain(|message| message.receipt.as_deref() != Some(receipt));
        Ok(())
    }

    async fn release(&self, receipt: &str, delay: Duration) -> Result<(), PortError> {
        self.trouble.check("release a message")?;
        let mut waiting = lock(&self.waiting);
        if let Some(message) = waiting.iter_mut().find(|message| message.receipt.as_deref() == Some(receipt)) {
            message.visible = Instant::now() + delay;
        }
        Ok(())
    }

    async fn dead_letters(&self) -> Result<u64, PortError> {
        Ok(lock(&self.dead).len() as u64)
    }

    async fn redrive(&self) -> Result<u64, PortError> {
        let dead = std::mem::take(&mut *lock(&self.dead));
        let count = dead.len() as u64;
        for body in dead {
            self.send(&body, Duration::ZERO).await?;
        }
        Ok(count)
    }
}

/// Executions that do nothing, and are as a test says they are.
#[derive(Default)]
pub struct MemoryWorkflows {
    executions: Mutex<BTreeMap<(Workflow, String), (WorkflowState, Value)>>,
    trouble: Trouble,
}

impl MemoryWorkflows {
    /// Has calls fail from now on, or not any more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        self.trouble.set(kind);
    }

    /// Says how an execution stands.
    pub fn set(&self, workflow: Workflow, name: &str, state: WorkflowState) {
        if let Some(execution) = lock(&self.executions).get_mut(&(workflow, name.to_owned())) {
            execution.0 = state;
        }
    }

    /// Forgets an execution, as if it had never been started.
    pub fn forget(&self, workflow: Workflow, name: &str) {
        lock(&self.executions).remove(&(workflow, name.to_owned()));
    }

    /// The names and inputs of all that were started.
    #[must_use]
    pub fn started(&self) -> Vec<(Workflow, String, Value)> {
        let executions = lock(&self.executions);
        executions.iter().map(|((workflow, name), (_, input))| (*workflow, name.clone(), input.clone())).collect()
    }
}

#[async_trait]
impl Workflows for MemoryWorkflows {
    async fn start(&self, workflow: Workflow, name: &str, input: &Value) -> Result<Started, PortError> {
        self.trouble.check("start a workflow")?;
        let mut executions = lock(&self.executions);
        let key = (workflow, name.to_owned());
        if executions.contains_key(&key) {
            return Ok(Started::Before);
        }
        executions.insert(key, (WorkflowState::Running, input.clone()));
        Ok(Started::New)
    }

    async fn stop(&self, workflow: Workflow, name: &str, _reason: &str) -> Result<(), PortError> {
        self.trouble.check("stop a workflow")?;
        if let Some((state, _)) = lock(&self.executions).get_mut(&(workflow, name.to_owned()))
            && *state == WorkflowState::Running
        {
            *state = WorkflowState::Stopped;
        }
        Ok(())
    }

    async fn state(&self, workflow: Workflow, name: &str) -> Result<Option<WorkflowState>, PortError> {
        self.trouble.check("look at a workflow")?;
        Ok(lock(&self.executions).get(&(workflow, name.to_owned())).map(|(state, _)| state.clone()))
    }
}

/// Schedules that never fire.
#[derive(Default)]
pub struct MemoryScheduler {
    rules: Mutex<BTreeMap<String, ScheduleRule>>,
    trouble: Trouble,
}

impl MemoryScheduler {
    /// Has calls fail from now on, or not any more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        self.trouble.set(kind);
    }

    /// What it knows, by name.
    #[must_use]
    pub fn rules(&self) -> BTreeMap<String, ScheduleRule> {
        lock(&self.rules).clone()
    }

    /// Forgets a rule, as if it had never been told of it.
    pub fn forget(&self, name: &str) {
        lock(&self.rules).remove(name);
    }
}

#[async_trait]
impl Scheduler for MemoryScheduler {
    async fn put(&self, rule: &ScheduleRule) -> Result<(), PortError> {
        self.trouble.check("store a schedule")?;
        lock(&self.rules).insert(rule.name.clone(), rule.clone());
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), PortError> {
        self.trouble.check("remove a schedule")?;
        lock(&self.rules).remove(name);
        Ok(())
    }

    async fn fires_as(&self, rule: &ScheduleRule) -> Result<bool, PortError> {
        self.trouble.check("look at a schedule")?;
        let known = lock(&self.rules).get(&rule.name).cloned();
        Ok(known.is_some_and(|known| known.cron == rule.cron && known.enabled == rule.enabled))
    }
}

/// Keeps what was published.
#[derive(Default)]
pub struct MemoryEvents {
    published: Mutex<Vec<DomainEvent>>,
    live: Mutex<Vec<DomainEvent>>,
    trouble: Trouble,
}

impl MemoryEvents {
    /// Has calls fail from now on, or not any more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        self.trouble.set(kind);
    }

    /// What was published, in order.
    #[must_use]
    pub fn published(&self) -> Vec<DomainEvent> {
        lock(&self.published).clone()
    }

    /// What was published for live clients alone, in order.
    #[must_use]
    pub fn live(&self) -> Vec<DomainEvent> {
        lock(&self.live).clone()
    }
}

#[async_trait]
impl EventBus for MemoryEvents {
    async fn publish(&self, events: &[DomainEvent]) -> Result<(), PortError> {
        self.trouble.check("publish events")?;
        lock(&self.published).extend_from_slice(events);
        Ok(())
    }

    async fn publish_live(&self, event: &DomainEvent) -> Result<(), PortError> {
        self.trouble.check("publish an event for live clients")?;
        lock(&self.live).push(event.clone());
        Ok(())
    }
}

/// Master keys that "wrap" by remembering: the wrapped bytes are a number, and what it stands for never leaves.
#[derive(Default)]
pub struct MemoryKeys {
    wrapped: Mutex<Vec<(String, EncryptionContext, KeyBytes)>>,
    random: CountedRandom,
    unwraps: AtomicU64,
    trouble: Trouble,
}

impl MemoryKeys {
    /// Has calls fail from now on, or not any more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        self.trouble.set(kind);
    }

    /// How often a key was unwrapped.
    #[must_use]
    pub fn unwraps(&self) -> u64 {
        self.unwraps.load(Ordering::SeqCst)
    }

    /// Every key that was wrapped, for tests that look for what must not stand anywhere.
    #[must_use]
    pub fn all(&self) -> Vec<KeyBytes> {
        lock(&self.wrapped).iter().map(|(.., key)| key.clone()).collect()
    }

    fn keep(&self, master: Option<&str>, context: &EncryptionContext, key: KeyBytes) -> Result<WrappedKey, PortError> {
        let master = master.unwrap_or(OWN_MASTER).to_owned();
        if ![OWN_MASTER, OTHER_MASTER].contains(&master.as_str()) {
            return Err(PortError::new(ErrorKind::NotFound, "wrap a key", "there is no such master key"));
        }
        let mut wrapped = lock(&self.wrapped);
        wrapped.push((master.clone(), context.clone(), key));
        let bytes = splitmix(wrapped.len() as u64 - 1).to_le_bytes().to_vec();
        Ok(WrappedKey { master, bytes })
    }
}

#[async_trait]
impl KeyService for MemoryKeys {
    async fn generate(
        &self,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<(KeyBytes, WrappedKey), PortError> {
        self.trouble.check("generate a key")?;
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        let key = KeyBytes::new(bytes);
        let wrapped = self.keep(master, context, key.clone())?;
        Ok((key, wrapped))
    }

    async fn wrap(
        &self,
        master: Option<&str>,
        key: &KeyBytes,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        self.trouble.check("wrap a key")?;
        self.keep(master, context, key.clone())
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<KeyBytes, PortError> {
        self.trouble.check("unwrap a key")?;
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        let keys = lock(&self.wrapped);
        let found = keys.iter().enumerate().find(|(index, (master, bound, _))| {
            splitmix(*index as u64).to_le_bytes() == wrapped.bytes[..] && *master == wrapped.master && bound == context
        });
        let refusal = || PortError::new(ErrorKind::PermissionDenied, "unwrap a key", "refused");
        found.map(|(_, (.., key))| key.clone()).ok_or_else(refusal)
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        master: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<WrappedKey, PortError> {
        self.trouble.check("wrap a key anew")?;
        let key = self.unwrap(wrapped, context).await?;
        self.keep(master, context, key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job_queue_suite::{self, QueueUnderTest};
    use crate::key_service_suite;

    #[tokio::test]
    async fn the_queue_conforms() {
        let unit = Duration::from_millis(100);
        let queue = Arc::new(MemoryQueue::default());
        job_queue_suite::conforms(&QueueUnderTest { queue, unit, most_deliveries: MAX_DELIVERIES }).await;
    }

    #[tokio::test]
    async fn the_keys_conform() {
        key_service_suite::conforms(&MemoryKeys::default(), OTHER_MASTER).await;
    }

    #[test]
    fn random_bytes_do_not_repeat() {
        let random = CountedRandom::default();
        let mut seen = BTreeSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 10];
            random.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
    }
}
