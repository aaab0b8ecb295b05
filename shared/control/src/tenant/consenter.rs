//! Who comes back with a consent.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::actor::Actor;
use crate::control::Control;
use crate::error::Result;
use crate::id::OrganizationId;
use crate::secrets::SealedSecret;
use crate::tenant::{Caller, OrganizationScope};
use crate::token;

/// What such secrets are sealed for.
const RECORD: &str = "consent";
const BEGUN: &str = "begun";

/// Proof that a browser holds what a caller was given who asked for a consent: nobody but we can make it, so that no stranger
/// has anything written. Who it is stands in it, and has proven no more since.
pub(crate) struct Consenter {
    scope: OrganizationScope,
    actor: Actor,
    /// Seconds since 1970.
    begun: i64,
}

/// What is sealed in a browser's secret.
#[derive(Serialize, Deserialize)]
struct Begun {
    actor: Actor,
    begun: i64,
    /// Makes each of them another.
    secret: String,
}

impl Consenter {
    pub(crate) const fn scope(&self) -> &OrganizationScope {
        &self.scope
    }

    pub(crate) const fn actor(&self) -> Actor {
        self.actor
    }

    pub(crate) const fn begun(&self) -> i64 {
        self.begun
    }
}

impl Control {
    /// A secret for the browser of a caller who asks for a consent: the organization, and what only its data key opens.
    pub(crate) async fn consenters_secret(&self, caller: &Caller) -> Result<Zeroizing<String>> {
        let organization = self.organization_record(caller.scope()).await?.value;
        let secrets = self.secret_box(caller.organization(), &organization.data_key).await?;
        let secret = token::secret(self.ports().random.as_ref()).to_string();
        let begun = Begun { actor: caller.actor(), begun: self.now().seconds, secret };
        let text = Zeroizing::new(serde_json::to_string(&begun).map_err(crate::error::ControlError::internal)?);
        let sealed = secrets.seal(self, RECORD, BEGUN, &text);
        Ok(Zeroizing::new(format!("{}.{}", caller.organization(), sealed.as_str())))
    }

    /// Who holds such a secret; nothing if it is none of ours.
    pub(crate) async fn consenter(&self, browser_secret: &str) -> Result<Option<Consenter>> {
        let Some((organization, sealed)) = browser_secret.split_once('.') else { return Ok(None) };
        let Ok(organization) = organization.parse::<OrganizationId>() else { return Ok(None) };
        let scope = OrganizationScope(organization);
        let Some(record) = self.organization_if_there(&scope).await? else { return Ok(None) };
        let secrets = self.secret_box(organization, &record.value.data_key).await?;
        let Ok(text) = secrets.open(RECORD, BEGUN, &SealedSecret::from_text(sealed)) else { return Ok(None) };
        let begun: Option<Begun> = serde_json::from_str(&text).ok();
        Ok(begun.map(|Begun { actor, begun, .. }| Consenter { scope, actor, begun }))
    }
}
