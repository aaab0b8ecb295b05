//! What targets are told before they are current: all there is, or what has changed since they knew everything.

use firebackup_model::Timestamp;
use firebackup_model::path::collection_group_of;
use gcloud_sdk::google::firestore::v1::target::ResumeType;
use gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use tonic::{Code, Status};

use super::hub::Hub;
use super::knobs::Knobs;
use super::listener::Listener;
use super::message::{self, Wanted};
use super::token::Token;

impl Hub {
    /// Resets what is open, if that was asked for.
    pub(super) async fn reset(&mut self, knobs: &Knobs, token: Token) -> Result<(), Status> {
        if knobs.resets == self.resets {
            return Ok(());
        }
        for listener in self.listeners.values_mut() {
            for (target, group) in &listener.targets {
                self.control.count(|counts| counts.resets += 1);
                listener.say(message::target(TargetChangeType::Reset, *target));
                let documents = self.upstream.group(group, token.read_time).await?;
                listener.say_whole(*target, documents, token);
            }
            listener.is_owed_a_point = true;
        }
        self.resets = knobs.resets;
        Ok(())
    }

    /// Tells the targets that are new what they are to begin with.
    pub(super) async fn begin(&mut self, knobs: &Knobs, token: Token) -> Result<(), Status> {
        let streams: Vec<u64> = self.listeners.keys().copied().collect();
        for stream in streams {
            let Some(mut listener) = self.listeners.remove(&stream) else { continue };
            match self.begin_with(&mut listener, knobs, token).await {
                // what was asked for cannot be given: that ends its stream
                Err(refused) if refused.code() == Code::InvalidArgument => listener.end(&refused),
                begun => {
                    self.listeners.insert(stream, listener);
                    begun?;
                }
            }
        }
        Ok(())
    }

    async fn begin_with(&mut self, listener: &mut Listener, knobs: &Knobs, token: Token) -> Result<(), Status> {
        for Wanted { target, group, resume } in std::mem::take(&mut listener.wanted) {
            if listener.targets.contains_key(&target) {
                return Err(Status::invalid_argument(format!("target {target} is there already")));
            }
            listener.say(message::target(TargetChangeType::Add, target));
            match self.resumes_from(resume.as_ref(), token)? {
                Some(since) => self.catch_up(listener, target, &group, since, knobs, token).await?,
                None => {
                    if resume.is_some() {
                        self.control.count(|counts| counts.resets += 1);
                        listener.say(message::target(TargetChangeType::Reset, target));
                    }
                    let documents = self.upstream.group(&group, token.read_time).await?;
                    listener.say_whole(target, documents, token);
                }
            }
            listener.targets.insert(target, group);
            listener.is_owed_a_point = true;
        }
        Ok(())
    }

    /// The moment that a target goes on from; nothing when it begins from nothing.
    fn resumes_from(&self, resume: Option<&ResumeType>, now: Token) -> Result<Option<Timestamp>, Status> {
        let since = match resume {
            None => return Ok(None),
            Some(ResumeType::ReadTime(time)) => Some(Timestamp::new(time.seconds, time.nanos.cast_unsigned())),
            Some(ResumeType::ResumeToken(bytes)) => {
                Token::decode(bytes).filter(|token| token.generation == now.generation).map(|token| token.read_time)
            }
        };
        if since.is_some_and(|since| since > now.read_time) {
            return Err(Status::invalid_argument("a read time to go on from may not lie in the future"));
        }
        Ok(since.filter(|since| *since >= self.since))
    }

    /// Tells a target what has changed since a moment at which it knows everything.
    async fn catch_up(
        &mut self,
        listener: &mut Listener,
        target: i32,
        group: &str,
        since: Timestamp,
        knobs: &Knobs,
        token: Token,
    ) -> Result<(), Status> {
        self.control.count(|counts| counts.resumes += 1);
        let mut names = self.ledger.since(since);
        names.retain(|name| collection_group_of(name) == group);
        if knobs.hidden.contains(group) {
            self.withheld.extend(names.drain(..));
        }
        let states = self.upstream.read(&names, token.read_time).await?;
        for state in self.changed(states, Some(since), knobs).await? {
            if state.document.is_some() || !knobs.swallows_deletes {
                listener.tell(&state, vec![target], token.read_time);
            }
        }
        if knobs.has_filters || knobs.swallows_deletes {
            listener.say(message::filter(target, self.upstream.count(group, token.read_time).await?));
        }
        listener.say(message::complete(Some(target), token));
        Ok(())
    }
}
