//! A container of Azure's: closed to the public, as containers are where nothing else is said.

use std::str::FromStr;

use object_store::azure::{AzureAuthorizer, AzureConfigKey};

use super::request::{Connection, request};
use super::{BucketWishes, MAKE, MadeBucket, MakeBucketError, refused};
use crate::destination::DestinationKind;
use crate::error::{code_of, port_error};
use crate::remote::{self, Patience};
use crate::settings::DestinationSettings;

const RIGHT: &str =
    "Microsoft.Storage/storageAccounts/blobServices/containers/write (such as Storage Blob Data Contributor)";

pub(super) async fn make(
    container: &str,
    settings: &DestinationSettings,
    wishes: &BucketWishes,
) -> Result<MadeBucket, MakeBucketError> {
    if wishes.location.is_some() {
        return Err(refused("a container lies where its storage account does: no location has a place here").into());
    }
    let account = account(settings).ok_or_else(|| refused("AZURE_STORAGE_ACCOUNT_NAME is not given"))?;
    let store = remote::azure(container, settings, Patience::Brief)?;
    let endpoint = remote::azure_endpoint(settings)?;
    let is_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_http);
    let base = endpoint.map_or_else(|| format!("https://{account}.blob.core.windows.net"), |endpoint| endpoint.url);
    let mut request = request(MAKE, "PUT", &format!("{base}/{container}?restype=container"), &[], String::new())?;
    let failed = |error| port_error(MAKE, error);
    let credential = store.credentials().get_credential().await.map_err(failed)?;
    AzureAuthorizer::new(&credential, account).try_authorize(&mut request).map_err(failed)?;
    let reply = Connection::new(settings, is_http)?.send(MAKE, request).await?;
    match code_of(&reply.body).as_deref() {
        _ if reply.is_success() => Ok(MadeBucket {
            kind: DestinationKind::Azure,
            is_closed: true,
            keeps_versions: false,
            locks_objects: false,
            problems: Vec::new(),
        }),
        // names are the account's own
        Some("ContainerAlreadyExists") => Err(MakeBucketError::Yours),
        _ => Err(reply.refusal(MAKE, RIGHT).into()),
    }
}

/// The account under any of its names that the client knows.
fn account(settings: &DestinationSettings) -> Option<&str> {
    let is_name = |name: &str| matches!(AzureConfigKey::from_str(name), Ok(AzureConfigKey::AccountName));
    let named = settings.options.iter().rev().find(|(name, _)| is_name(&name.to_ascii_lowercase()));
    named.map(|(_, account)| account.as_str())
}
