//! What only the installation's first organization reaches, whose owner runs the installation: folders and emulators on its
//! machine, and whatever its own credentials open. Others bring credentials of their own: else each would reach, in its own
//! name, what is the operator's or another organization's.

use zeroize::Zeroizing;

use crate::control::Control;
use crate::error::{ControlError, Result};
use crate::tenant::OrganizationScope;

/// The options that bring credentials: a store that is opened with none of these is opened with the installation's own.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_CLIENT_SECRET",
];

impl Control {
    /// Goes on only if an organization may reach a destination with these options.
    pub(crate) async fn check_reach(
        &self,
        scope: &OrganizationScope,
        url: &str,
        options: &[(String, Zeroizing<String>)],
    ) -> Result<()> {
        let is_folder = url.starts_with("file:");
        let brings_credentials = options.iter().any(|(name, _)| CREDENTIALS.contains(&name.as_str()));
        if (!is_folder && brings_credentials) || self.is_first(scope).await? {
            return Ok(());
        }
        Err(match is_folder {
            true => ControlError::field("url", "folders of this machine are its operator's: name a bucket"),
            false => ControlError::field(
                "options",
                "bring credentials for the store: this installation's own are its operator's",
            ),
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
