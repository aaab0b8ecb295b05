//! Who posts events of a database, without a session.

use zeroize::Zeroizing;

use firebackup_model::{ErrorKind, PortError};

use crate::control::Control;
use crate::error::{Code, ControlError, Kind, Result};
use crate::event_push::{PushOwner, PushRecord};
use crate::id::ProjectId;
use crate::item_keys;
use crate::pitr_record::PitrRecord;
use crate::secrets::SecretText;
use crate::signature::Signed;
use crate::tenant::OrganizationScope;

/// What somebody shows who posts an event.
#[derive(Debug, Clone)]
pub enum EventProof {
    /// An id token of an account.
    Token(SecretText),
    /// A signature of what is posted.
    Signed(Signed),
}

/// Who is about to post an event: what could be proven without its body is.
pub struct EventSender {
    scope: OrganizationScope,
    record: PitrRecord,
    /// What is proven by the body alone.
    signed: Option<(Signed, Vec<Zeroizing<String>>)>,
}

/// What it holds is nobody's business.
impl std::fmt::Debug for EventSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSender").field("pitr", &self.record.id).finish_non_exhaustive()
    }
}

/// Proof that whoever posts an event is who may.
pub(crate) struct Reporter {
    scope: OrganizationScope,
    record: PitrRecord,
}

impl Reporter {
    pub(crate) const fn scope(&self) -> &OrganizationScope {
        &self.scope
    }

    pub(crate) const fn record(&self) -> &PitrRecord {
        &self.record
    }
}

impl EventSender {
    /// Goes on only if the body is what was signed, where that is the proof.
    pub(crate) fn proven(self, body: &[u8]) -> Result<Reporter> {
        let Self { scope, record, signed } = self;
        match signed {
            Some((signed, secrets)) if !signed.is_by(&secrets, body)? => Err(unproven()),
            _ => Ok(Reporter { scope, record }),
        }
    }
}

impl Control {
    /// Finds out who is about to post an event of a database, before anything of it is read.
    ///
    /// # Errors
    /// [`Unauthorized`](Kind::Unauthorized) without a proof, or where it does not hold; [`NotFound`](Kind::NotFound) where no
    /// events of that database are taken; [`Conflict`](Kind::Conflict) while its changes are not captured;
    /// [`Upstream`](Kind::Upstream) where the issuer does not answer.
    pub async fn event_sender(
        &self,
        project: &ProjectId,
        database: Option<&str>,
        proof: Option<EventProof>,
    ) -> Result<EventSender> {
        let proof = proof.ok_or_else(|| {
            let message = "send an id token of the service account, or `webhook-signature`";
            ControlError::new(Kind::Unauthorized, Code::Unauthorized, message)
        })?;
        let (scope, record) = self.pushed(project, database).await?;
        let push = record.push.clone().ok_or_else(not_taken)?;
        let signed = match proof {
            EventProof::Token(token) => {
                self.check_token(&push, &token).await?;
                None
            }
            EventProof::Signed(signed) => {
                if !push.config.hmac || !signed.is_of(self.now()) {
                    return Err(unproven());
                }
                Some((signed, self.push_secrets(&scope, record.id, &push).await?))
            }
        };
        Ok(EventSender { scope, record, signed })
    }

    /// The organization of a project that events are posted of, and how changes of its database are captured.
    async fn pushed(&self, project: &ProjectId, database: Option<&str>) -> Result<(OrganizationScope, PitrRecord)> {
        let owner = self.load::<PushOwner>(&item_keys::push_owner(project)).await?.ok_or_else(not_taken)?;
        let scope = OrganizationScope(owner.value.organization);
        self.organization_if_there(&scope).await?.ok_or_else(not_taken)?;
        let record = self.pitr_record(&scope, project, database).await?.value;
        Ok((scope, record))
    }

    async fn check_token(&self, push: &PushRecord, token: &SecretText) -> Result<()> {
        let (Some(account), Some(audience)) = (&push.config.service_account, &push.config.audience) else {
            return Err(unproven());
        };
        let accounts = self.ports().accounts.as_deref().ok_or_else(|| {
            ControlError::conflict(Code::PitrUnavailable, "this installation takes no tokens of service accounts")
        })?;
        let proven = accounts.account(token.expose(), audience).await.map_err(of_issuer)?;
        if proven.eq_ignore_ascii_case(account) { Ok(()) } else { Err(unproven()) }
    }
}

fn of_issuer(error: PortError) -> ControlError {
    match error.kind {
        ErrorKind::PermissionDenied => unproven().with_source(error),
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            let message = "the issuer of the token does not answer; try again";
            ControlError::new(Kind::Upstream, Code::IssuerFailed, message).with_source(error)
        }
        _ => ControlError::internal(error),
    }
}

fn not_taken() -> ControlError {
    ControlError::not_found("database whose events are taken: set `push` of its recovery to a point in time")
}

fn unproven() -> ControlError {
    let message = "what is sent does not prove that this event may be posted";
    ControlError::new(Kind::Unauthorized, Code::InvalidToken, message)
}
