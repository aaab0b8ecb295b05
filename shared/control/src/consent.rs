//! The consent of a Google account in place of a key: a browser is sent to Google, and comes back with a grant that connects
//! one project.
//!
//! It is a sign-in in all but two things. What the browser holds is sealed under the organization's data key and says who
//! asked, so that nobody else begins one and no stranger writes. And what comes of it is no session but a refresh token,
//! which is kept sealed for as long as a grant is good, and then in the project that took it.

use firebackup_model::port::{ConsentIssuer, ItemWrite, NewItem};
use firebackup_model::{ErrorKind, PortError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::access::Credentials;
use crate::actor::Actor;
use crate::control::Control;
use crate::credentials::{CREDENTIALS, CheckedCredentials, StoredCredentials};
use crate::error::{Code, ControlError, Kind, Result};
use crate::item_keys;
use crate::project::{Project, ProjectRecord};
use crate::record::{Stored, Written, new_item};
use crate::role::Right;
use crate::secrets::SealedSecret;
use crate::sign_in::{SIGN_IN_SECONDS, SKEW_SECONDS, UsedSignIn, derived};
use crate::tenant::{Caller, Consenter, OrganizationScope};
use crate::token;

/// What grants begin with.
const PREFIX: &str = "fbg_";

/// A question for a consent that is under way.
pub struct BegunConsent {
    /// Where the browser is to go.
    pub url: String,
    /// What the browser must bring back; for a cookie that no script reads.
    pub browser_secret: Zeroizing<String>,
}

/// A consent that waits for its project.
#[derive(Debug, Serialize, Deserialize)]
struct Grant {
    /// Who asked for it: nobody else may take it.
    actor: Actor,
    account: Option<String>,
    token: SealedSecret,
}

impl Control {
    /// Begins to ask a Google account whether we may into its projects.
    ///
    /// # Errors
    /// [`ConsentUnavailable`](Code::ConsentUnavailable) where no client of Google's is set up; when Google does not answer.
    pub async fn begin_consent(&self, caller: &Caller) -> Result<BegunConsent> {
        caller.may(Right::Manage)?;
        let issuer = self.consent_issuer()?;
        let browser_secret = self.consenters_secret(caller).await?;
        let url = issuer.consent_url(&derived(&browser_secret)).await.map_err(refused_by_issuer)?;
        Ok(BegunConsent { url, browser_secret })
    }

    /// Takes a browser back with a consent, and gives a grant for [`connect_project`](Self::connect_project) or
    /// [`update_project`](Self::update_project): good once, for ten minutes, for whoever began.
    ///
    /// # Errors
    /// [`ConsentFailed`](Code::ConsentFailed): another browser began it, it comes twice or too late, Google's answer proves
    /// nothing, or less was consented to than is needed.
    pub async fn finish_consent(
        &self,
        state: &str,
        code: &str,
        browser_secret: Option<&str>,
    ) -> Result<Zeroizing<String>> {
        let issuer = self.consent_issuer()?;
        let browser_secret = browser_secret.ok_or_else(failed)?;
        let consenter = self.consenter(browser_secret).await?.ok_or_else(failed)?;
        let (sign_in, age) = (derived(browser_secret), self.now().seconds.saturating_sub(consenter.begun()));
        if !(-SKEW_SECONDS..=SIGN_IN_SECONDS).contains(&age) || !token::is_same(&sign_in.state, state) {
            return Err(failed());
        }
        let used = new_item(item_keys::sign_in(&token::hash(state.as_bytes())), &UsedSignIn {}, None)?;
        // before the issuer is asked: of two that come with one code, one asks
        if self.write_unrecorded(vec![ItemWrite::Create(self.for_minutes(used))]).await? == Written::Outrun {
            return Err(failed());
        }
        let consent = issuer.take_consent(code, &sign_in).await.map_err(refused_by_issuer)?;
        self.keep_grant(&consenter, &consent.refresh_token, consent.account).await
    }

    /// The credentials that a grant stands for, and what takes it away.
    pub(crate) async fn granted(&self, caller: &Caller, grant: &str) -> Result<CheckedCredentials> {
        self.consent_issuer()?;
        let scope = caller.scope();
        let refused = || ControlError::field("credentials.grant", "it is unknown, used, too old, or somebody else's");
        let hash = token::hash_of(PREFIX, grant).ok_or_else(refused)?;
        let kept: Option<Stored<Grant>> = self.load(&scope.consent_key(&hash)).await?;
        let kept = kept.filter(|kept| kept.value.actor == caller.actor()).ok_or_else(refused)?;
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        let refresh_token = secrets.open(&hash, CREDENTIALS, &kept.value.token)?;
        Ok(CheckedCredentials {
            account: kept.value.account.clone(),
            spent: Some(kept.delete()),
            ..CheckedCredentials::of(Credentials::Oauth { refresh_token }, "oauth")
        })
    }

    /// Gives the consent back that a project stood on, where it stood on one and no other of the organization stands on one of
    /// the same account: Google ends all of an account at once. Whether it can be given back is of no matter to anybody here.
    pub(crate) async fn give_consent_back(&self, scope: &OrganizationScope, before: &ProjectRecord) {
        if !matches!(before.credentials, StoredCredentials::Oauth { .. }) {
            return;
        }
        if let Err(error) = self.try_give_back(scope, before).await {
            tracing::warn!(project = %before.project.id, error = %error, "a consent could not be given back");
        }
    }

    async fn try_give_back(&self, scope: &OrganizationScope, before: &ProjectRecord) -> Result<()> {
        let Some(account) = &before.project.account else { return Ok(()) };
        let others = self.all::<ProjectRecord>(scope.projects()).await?;
        let stands_on = |project: &Project| project.account.as_ref() == Some(account);
        if others.iter().any(|other| stands_on(&other.value.project)) {
            return Ok(());
        }
        let organization = self.organization_record(scope).await?;
        let access = self.project_access(&organization, before).await?;
        if let Credentials::Oauth { refresh_token } = &access.credentials {
            self.consent_issuer()?.give_back(refresh_token).await.map_err(ControlError::internal)?;
        }
        Ok(())
    }

    async fn keep_grant(
        &self,
        consenter: &Consenter,
        refresh_token: &str,
        account: Option<String>,
    ) -> Result<Zeroizing<String>> {
        let scope = consenter.scope();
        let (grant, hash) = token::bare(PREFIX, self.ports().random.as_ref());
        let organization = self.organization_record(scope).await?.value;
        let secrets = self.secret_box(scope.organization(), &organization.data_key).await?;
        let token = secrets.seal(self, &hash, CREDENTIALS, refresh_token);
        let kept = Grant { actor: consenter.actor(), account, token };
        let item = self.for_minutes(new_item(scope.consent_key(&hash), &kept, None)?);
        match self.write_unrecorded(vec![ItemWrite::Create(item)]).await? {
            Written::Yes => Ok(grant),
            Written::Outrun => Err(ControlError::concurrent_change()),
        }
    }

    fn for_minutes(&self, item: NewItem) -> NewItem {
        NewItem { expires: Some(self.now().plus_seconds(SIGN_IN_SECONDS + SKEW_SECONDS)), ..item }
    }

    fn consent_issuer(&self) -> Result<&dyn ConsentIssuer> {
        self.ports().consents.as_deref().ok_or_else(|| {
            let message = "nobody has set up an OAuth client of Google's: give this installation one to sign in with \
                           (`--oidc-client-id` and the issuer https://accounts.google.com), or use a service account's key";
            ControlError::new(Kind::NotFound, Code::ConsentUnavailable, message)
        })
    }
}

fn failed() -> ControlError {
    let message = "the consent could not be taken: begin it again, in one browser and within ten minutes";
    ControlError::new(Kind::Unauthorized, Code::ConsentFailed, message)
}

fn refused_by_issuer(error: PortError) -> ControlError {
    match error.kind {
        ErrorKind::PermissionDenied => failed().with_source(error),
        ErrorKind::FailedPrecondition => {
            let message = "what was consented to is not enough: begin again, and leave every box ticked";
            ControlError::new(Kind::Unauthorized, Code::ConsentFailed, message).with_source(error)
        }
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
            let message = "Google does not answer; try again";
            ControlError::new(Kind::Upstream, Code::IssuerFailed, message).with_source(error)
        }
        _ => ControlError::internal(error),
    }
}
