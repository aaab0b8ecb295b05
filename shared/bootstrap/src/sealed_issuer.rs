//! The issuer of the stack: its settings stand in the environment, and of the client's secret what KMS made of it.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firebackup_aws::KmsKeyService;
use firebackup_model::port::{
    Clock, Consent, ConsentIssuer, EncryptionContext, Identity, IdentityProvider, SignIn, WrappedKey,
};
use firebackup_model::{ErrorKind, PortError};
use firebackup_outbound::{OidcProvider, OidcSettings};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::aws_environment::AwsEnvironment;
use crate::oauth_client::for_consents;
use crate::sign_in::{GOOGLE, PublicUrl, provider};

const SET_UP: &str = "set up the sign-in";

/// The client at the issuer, whose secret is opened when it is needed first: starting asks nobody.
pub(crate) struct SealedClient {
    /// Without the secret, and without a place where browsers come back to.
    settings: OidcSettings,
    sealed_secret: WrappedKey,
    context: EncryptionContext,
    keys: KmsKeyService,
    secret: OnceCell<Zeroizing<String>>,
}

/// The issuer that people are sent to.
pub(crate) struct SealedIssuer {
    client: SealedClient,
    redirect_uri: String,
    allow_private_addresses: bool,
    clock: Arc<dyn Clock>,
    provider: OnceCell<OidcProvider>,
}

impl SealedClient {
    /// The client that the environment names, if it names one.
    ///
    /// # Errors
    /// When something of it is missing or of no use.
    pub(crate) fn of(environment: &AwsEnvironment, keys: KmsKeyService) -> Result<Option<Self>, PortError> {
        let Some(client_id) = environment.get("FIREBACKUP_OIDC_CLIENT_ID") else { return Ok(None) };
        let sealed = STANDARD.decode(environment.need("FIREBACKUP_OIDC_CLIENT_SECRET")?);
        let bytes = sealed.map_err(|error| refused("the client's secret is not base64").with_source(error))?;
        let settings = OidcSettings {
            issuer: environment.get("FIREBACKUP_OIDC_ISSUER").unwrap_or(GOOGLE).to_owned(),
            client_id: client_id.to_owned(),
            client_secret: Zeroizing::default(),
            redirect_uri: String::new(),
        };
        let sealed_secret = WrappedKey { master: environment.need("FIREBACKUP_KMS_KEY_ARN")?.to_owned(), bytes };
        let context = context(environment.need("FIREBACKUP_STACK")?);
        Ok(Some(Self { settings, sealed_secret, context, keys, secret: OnceCell::new() }))
    }

    /// The issuer.
    pub(crate) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// The settings with the secret, which is opened once.
    ///
    /// # Errors
    /// When the key does not open it.
    pub(crate) async fn settings(&self) -> Result<OidcSettings, PortError> {
        let opened = async { self.keys.open(&self.sealed_secret, &self.context).await.map_err(ours) };
        let client_secret = self.secret.get_or_try_init(|| opened).await?.clone();
        Ok(OidcSettings { client_secret, ..self.settings.clone() })
    }
}

impl SealedIssuer {
    /// The issuer that the environment names, if it names one.
    ///
    /// # Errors
    /// When something of it is missing or of no use.
    pub(crate) fn of(
        environment: &AwsEnvironment,
        keys: KmsKeyService,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, PortError> {
        let Some(client) = SealedClient::of(environment, keys)? else { return Ok(None) };
        let url: PublicUrl = environment.need("FIREBACKUP_PUBLIC_URL")?.parse().map_err(refused)?;
        let (redirect_uri, allow_private_addresses) = (url.callback(), allows_private_addresses(environment));
        Ok(Some(Self { client, redirect_uri, allow_private_addresses, clock, provider: OnceCell::new() }))
    }

    /// The issuer's identifier.
    pub(crate) fn name(&self) -> &str {
        self.client.issuer()
    }

    /// The same for consents: browsers come back elsewhere.
    pub(crate) fn for_consents(mut self) -> Self {
        let settings = OidcSettings { redirect_uri: self.redirect_uri, ..self.client.settings.clone() };
        self.redirect_uri = for_consents(&settings).redirect_uri;
        self
    }

    async fn provider(&self) -> Result<&OidcProvider, PortError> {
        self.provider.get_or_try_init(|| self.opened()).await
    }

    async fn opened(&self) -> Result<OidcProvider, PortError> {
        let settings = OidcSettings { redirect_uri: self.redirect_uri.clone(), ..self.client.settings().await? };
        provider(settings, self.allow_private_addresses, Arc::clone(&self.clock))
    }
}

/// What the secret is bound to, in `scripts/stack.py` too.
fn context(stack: &str) -> EncryptionContext {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    EncryptionContext::from([pair("stack", stack), pair("use", "oidc-client-secret")])
}

/// Whether whoever runs the stack lets addresses that others choose lead inside.
pub(crate) fn allows_private_addresses(environment: &AwsEnvironment) -> bool {
    environment.get("FIREBACKUP_ALLOW_PRIVATE_ADDRESSES") == Some("true")
}

fn refused(why: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::InvalidArgument, SET_UP, why)
}

/// That the key does not open the secret is not the fault of whoever signs in.
fn ours(error: PortError) -> PortError {
    match error.can_be_retried() {
        true => error,
        false => PortError::new(ErrorKind::Internal, SET_UP, "the client's secret does not open").with_source(error),
    }
}

#[async_trait]
impl IdentityProvider for SealedIssuer {
    async fn authorization_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        self.provider().await?.authorization_url(sign_in).await
    }

    async fn identify(&self, code: &str, sign_in: &SignIn) -> Result<Identity, PortError> {
        self.provider().await?.identify(code, sign_in).await
    }
}

#[async_trait]
impl ConsentIssuer for SealedIssuer {
    async fn consent_url(&self, sign_in: &SignIn) -> Result<String, PortError> {
        self.provider().await?.consent_url(sign_in).await
    }

    async fn take_consent(&self, code: &str, sign_in: &SignIn) -> Result<Consent, PortError> {
        self.provider().await?.take_consent(code, sign_in).await
    }

    async fn give_back(&self, refresh_token: &str) -> Result<(), PortError> {
        self.provider().await?.give_back(refresh_token).await
    }
}
