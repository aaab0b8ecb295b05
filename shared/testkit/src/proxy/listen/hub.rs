//! One database and all that listen to it, in a task of its own: whatever is told is told there, one round after the
//! other. A round is of one read time; it tells all listeners what was written, then those that are new or reset what
//! they are to begin with, and at last everybody that heard something that this was all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::Arc;

use firebackup_model::Timestamp;
use firebackup_model::path::collection_group_of;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::knobs::Knobs;
use super::ledger::{Ledger, Name};
use super::listener::{Answers, Listener};
use super::message::{self, Wanted};
use super::token::Token;
use super::upstream::{DocumentState, Upstream};
use crate::proxy::control::Control;

/// What a stream asks of its database.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        stream: u64,
        answers: Answers,
        wanted: Wanted,
    },
    Remove {
        stream: u64,
        target: i32,
    },
    /// The stream is over.
    Leave {
        stream: u64,
    },
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) upstream: Upstream,
    pub(super) ledger: Arc<Ledger>,
    pub(super) control: Control,
    knobs: watch::Receiver<Knobs>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// From when on every write is in the ledger.
    pub(super) since: Timestamp,
    pub(super) listeners: BTreeMap<u64, Listener>,
    /// When each document that was told had been changed: told once more, it is not news.
    told: HashMap<Name, Timestamp>,
    /// What changed in groups that were hidden when it was to be told.
    pub(super) withheld: BTreeSet<Name>,
    /// How many of the resets that were asked for have been done.
    pub(super) resets: u64,
    /// When what was written is to be told.
    due: Option<Instant>,
    /// The read time of the last round: whoever is current knows everything as it was then.
    told_until: Option<Timestamp>,
}

impl Hub {
    pub(super) fn new(
        upstream: Upstream,
        ledger: Arc<Ledger>,
        control: Control,
        since: Timestamp,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let knobs = control.watch_knobs();
        let resets = knobs.borrow().resets;
        Self {
            upstream,
            ledger,
            control,
            knobs,
            commands,
            since,
            listeners: BTreeMap::new(),
            told: HashMap::new(),
            withheld: BTreeSet::new(),
            resets,
            due: None,
            told_until: None,
        }
    }

    /// Runs until nobody can ask anything any more.
    pub(super) async fn run(mut self) {
        while self.wait().await {
            while let Ok(command) = self.commands.try_recv() {
                self.take(command);
            }
            self.listeners.retain(|_, listener| listener.is_open());
            if let Err(status) = self.round().await {
                self.fail(&status);
            }
            self.due = self.ledger.has_news().then(|| self.next_tick());
        }
    }

    /// Waits for a reason for a round; says whether there will be more.
    async fn wait(&mut self) -> bool {
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.take(command);
                        return true;
                    }
                    None => return false,
                },
                _ = self.knobs.changed() => if self.has_orders() { return true },
                () = self.ledger.news() => self.due = self.due.or_else(|| Some(self.next_tick())),
                () = at(wake_at) => return true,
            }
        }
    }

    fn next_tick(&self) -> Instant {
        Instant::now() + self.knobs.borrow().coalescing
    }

    /// When there is something to say; without listeners there never is.
    fn wake_at(&self) -> Option<Instant> {
        let heartbeat = self.knobs.borrow().heartbeat;
        let silence = self.listeners.values().map(|listener| listener.spoke_at + heartbeat).min()?;
        Some(self.due.map_or(silence, |due| due.min(silence)))
    }

    /// Whether the knobs ask for something at once.
    fn has_orders(&mut self) -> bool {
        let knobs = self.knobs.borrow_and_update();
        knobs.resets > self.resets || self.withheld.iter().any(|name| !is_hidden(&knobs, name))
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add { stream, answers, wanted } => {
                self.listeners.entry(stream).or_insert_with(|| Listener::new(answers)).add(wanted);
            }
            Command::Remove { stream, target } => {
                if let Some(listener) = self.listeners.get_mut(&stream) {
                    listener.remove(target);
                }
            }
            Command::Leave { stream } => drop(self.listeners.remove(&stream)),
        }
    }

    async fn round(&mut self) -> Result<(), Status> {
        let knobs = self.knobs.borrow_and_update().clone();
        for listener in self.listeners.values_mut() {
            listener.is_owed_a_point |= listener.spoke_at.elapsed() >= knobs.heartbeat;
        }
        let read_time = self.advance(&knobs).await?;
        let token = Token { generation: knobs.generation, read_time };
        self.reset(&knobs, token).await?;
        self.begin(&knobs, token).await?;
        self.say_points(&knobs, token).await
    }

    /// Tells what was written; says up to when.
    async fn advance(&mut self, knobs: &Knobs) -> Result<Timestamp, Status> {
        let answers = self.ledger.answers();
        let read_time = self.upstream.time().await?;
        // whatever was committed by then was touched before the time came back
        let mut names = self.ledger.touched();
        self.ledger.ended().await;
        let (withheld, shown): (_, BTreeSet<Name>) =
            std::mem::take(&mut self.withheld).into_iter().partition(|name| is_hidden(knobs, name));
        self.withheld = withheld;
        let has_shown = !shown.is_empty();
        self.show(shown, read_time, &mut names);
        for name in &names {
            if is_hidden(knobs, name) {
                self.withhold(name);
            }
        }
        names.retain(|name| !is_hidden(knobs, name) && self.is_listened_to(name));
        // of what was withheld it is not known since when
        let since = self.told_until.replace(read_time).filter(|_| !has_shown);
        let states = self.upstream.read(&names, read_time).await?;
        for state in self.changed(states, since, knobs).await? {
            self.tell(state, read_time);
        }
        self.ledger.settle(answers, read_time);
        Ok(read_time)
    }

    /// Leaves out documents that are gone and were not there at `since` either, if the knobs have it.
    pub(super) async fn changed(
        &self,
        mut states: Vec<DocumentState>,
        since: Option<Timestamp>,
        knobs: &Knobs,
    ) -> Result<Vec<DocumentState>, Status> {
        let Some(since) = since.filter(|_| knobs.leaves_out_passing) else { return Ok(states) };
        let gone = states.iter().filter(|state| state.document.is_none()).map(|state| Arc::clone(&state.name));
        let before = self.upstream.read(&gone.collect::<Vec<_>>(), since).await?;
        let was_there: BTreeSet<Name> =
            before.into_iter().filter(|state| state.document.is_some()).map(|state| state.name).collect();
        states.retain(|state| state.document.is_some() || was_there.contains(&state.name));
        Ok(states)
    }

    /// Has what was withheld told now, and to whoever goes on from an earlier point.
    fn show(&mut self, shown: BTreeSet<Name>, read_time: Timestamp, names: &mut Vec<Name>) {
        for name in &shown {
            self.told.remove(name);
            self.ledger.told_late(Arc::clone(name), read_time);
        }
        names.retain(|name| !shown.contains(name));
        names.extend(shown);
    }

    /// Says nothing of it, and that this was all.
    fn withhold(&mut self, name: &Name) {
        self.withheld.insert(Arc::clone(name));
        let group = collection_group_of(name);
        for listener in self.listeners.values_mut() {
            listener.is_owed_a_point |= listener.hears(group);
        }
    }

    fn is_listened_to(&self, name: &str) -> bool {
        let group = collection_group_of(name);
        self.listeners.values().any(|listener| listener.hears(group))
    }

    fn tell(&mut self, state: DocumentState, read_time: Timestamp) {
        let before = match state.update_time {
            Some(update_time) => self.told.insert(Arc::clone(&state.name), update_time),
            None => self.told.remove(&state.name),
        };
        if before.is_some() && before == state.update_time {
            return;
        }
        let group = collection_group_of(&state.name);
        for listener in self.listeners.values_mut() {
            listener.tell(&state, listener.targets_of(group), read_time);
        }
    }

    /// Tells who heard something, or nothing for long, that this was all.
    async fn say_points(&mut self, knobs: &Knobs, token: Token) -> Result<(), Status> {
        let mut counts = HashMap::new();
        for listener in self.listeners.values_mut().filter(|listener| listener.is_owed_a_point) {
            for (target, group) in listener.targets.iter().filter(|_| knobs.has_filters) {
                if !counts.contains_key(group) {
                    counts.insert(group.clone(), self.upstream.count(group, token.read_time).await?);
                }
                listener.say(message::filter(*target, counts[group]));
            }
            listener.say(message::complete(None, token));
            listener.is_owed_a_point = false;
            listener.spoke_at = Instant::now();
        }
        Ok(())
    }

    /// Ends all streams: what they were to be told cannot be read.
    fn fail(&mut self, status: &Status) {
        for listener in std::mem::take(&mut self.listeners).into_values() {
            listener.end(status);
        }
    }
}

fn is_hidden(knobs: &Knobs, name: &str) -> bool {
    knobs.hidden.contains(collection_group_of(name))
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
