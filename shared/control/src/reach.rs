//! What only the installation's first organization reaches, whose owner runs the installation: folders and emulators on its
//! machine, and whatever its own credentials open. Others bring credentials of their own: else each would reach, in its own
//! name, what is the operator's or another organization's.

use zeroize::Zeroizing;

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::tenant::OrganizationScope;

/// The sets of options of which each opens a store, by what its URL begins with. A store that is opened with less is opened with
/// the installation's own credentials, whatever else is said.
const SETS: [(&str, &[&str]); 5] = [
    ("s3:", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
    ("gs:", &["GOOGLE_SERVICE_ACCOUNT_KEY"]),
    ("az:", &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"]),
    ("az:", &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_SAS_KEY"]),
    (
        "az:",
        &[
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_CLIENT_ID",
            "AZURE_STORAGE_CLIENT_SECRET",
            "AZURE_STORAGE_TENANT_ID",
        ],
    ),
];

/// Whether these options hold all that opens a store of this URL.
fn opens_by_itself(url: &str, options: &[(String, Zeroizing<String>)]) -> bool {
    let says = |wanted: &&str| options.iter().any(|(name, _)| name == wanted);
    SETS.iter().any(|(scheme, set)| url.starts_with(scheme) && set.iter().all(says))
}

/// What to bring, for people.
fn wanted(url: &str) -> String {
    let sets = SETS.iter().filter(|(scheme, _)| url.starts_with(scheme)).map(|(_, set)| set.join(" and "));
    sets.collect::<Vec<_>>().join(", or ")
}

impl Control {
    /// Goes on only if an organization may reach a destination with these options.
    pub(crate) async fn check_reach(
        &self,
        scope: &OrganizationScope,
        url: &str,
        options: &[(String, Zeroizing<String>)],
    ) -> Result<()> {
        if opens_by_itself(url, options) || self.is_first(scope).await? {
            return Ok(());
        }
        Err(match url.starts_with("file:") {
            true => ControlError::field("url", "folders of this machine are its operator's: name a bucket"),
            false => {
                let message = "bring credentials for the store, as this installation's own are its operator's";
                ControlError::field("options", format!("{message}: {}", wanted(url)))
            }
        })
    }

    /// Goes on only if an organization may reach emulators on this machine.
    pub(crate) async fn check_emulators(&self, scope: &OrganizationScope) -> Result<()> {
        match self.ports().settings.allow_emulators && self.is_first(scope).await? {
            true => Ok(()),
            false => Err(ControlError::field("credentials", "emulators are not allowed here")),
        }
    }

    async fn is_first(&self, scope: &OrganizationScope) -> Result<bool> {
        Ok(self.installation().await? == Some(scope.organization()))
    }
}
