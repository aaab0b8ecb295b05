//! People who sign in.

use firebackup_model::Timestamp;
use firebackup_model::port::{Identity, ItemWrite};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::Result;
use crate::id::UserId;
use crate::item_keys;
use crate::record::{Stored, new_item};
use crate::token;

/// A person who signs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Names them.
    pub id: UserId,
    /// Their address, as the issuer that they sign in with vouches for; nothing where it does not, and of the local owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// For people.
    pub name: String,
    /// When they first signed in.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When they last signed in.
    #[schema(value_type = String, format = DateTime)]
    pub signed_in_at: Timestamp,
}

/// Whom an issuer's subject is here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) user: UserId,
}

/// The most characters of a name that an issuer says.
const MAX_NAME: usize = 100;
/// Whoever has no name.
const NAMELESS: &str = "Somebody";

/// An address in its one spelling.
pub(crate) fn address(text: &str) -> String {
    text.trim().to_lowercase()
}

/// A name that can be shown: of the issuer, else the part of the address before the `@`.
fn shown_name(identity: &Identity) -> String {
    let name = identity.name.as_deref().or_else(|| identity.email.as_deref()?.split('@').next());
    let name: String = name.unwrap_or_default().chars().filter(|char| !char.is_control()).take(MAX_NAME).collect();
    match name.trim() {
        "" => NAMELESS.to_owned(),
        name => name.to_owned(),
    }
}

impl User {
    /// Takes over what the issuer says now.
    pub(crate) fn update(&mut self, identity: &Identity, now: Timestamp) {
        self.email = vouched_for(identity);
        self.name = shown_name(identity);
        self.signed_in_at = now;
    }
}

/// The address that the issuer vouches for. Another one proves nothing, and nothing may follow from it.
pub(crate) fn vouched_for(identity: &Identity) -> Option<String> {
    identity.email.as_deref().filter(|email| identity.email_verified && !email.is_empty()).map(address)
}

/// What an issuer's subject is kept under. An issuer says nothing about the subjects of another.
pub(crate) fn subject_hash(issuer: &str, subject: &str) -> String {
    token::hash(format!("{}:{issuer}{subject}", issuer.len()).as_bytes())
}

impl Control {
    pub(crate) async fn user(&self, id: &UserId) -> Result<Stored<User>> {
        self.found(&item_keys::user(id), "user").await
    }

    /// A new user; what stores it comes with it.
    pub(crate) fn new_user(&self, identity: &Identity) -> Result<(User, [ItemWrite; 2])> {
        let now = self.now();
        let id = UserId::new(now, self.ports().random.as_ref());
        let mut user = User { id, email: None, name: String::new(), created_at: now, signed_in_at: now };
        user.update(identity, now);
        let subject = item_keys::subject(&subject_hash(&identity.issuer, &identity.subject));
        let writes = [
            ItemWrite::Create(new_item(item_keys::user(&id), &user, None)?),
            ItemWrite::Create(new_item(subject, &Subject { user: id }, None)?),
        ];
        Ok((user, writes))
    }

    /// Whom an issuer's subject is here.
    pub(crate) async fn user_of(&self, identity: &Identity) -> Result<Option<Stored<User>>> {
        let key = item_keys::subject(&subject_hash(&identity.issuer, &identity.subject));
        let Some(subject) = self.load::<Subject>(&key).await? else { return Ok(None) };
        self.user(&subject.value.user).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(email: Option<&str>, email_verified: bool, name: Option<&str>) -> Identity {
        let text = |text: &str| text.to_owned();
        let (issuer, subject) = (text("https://issuer.example"), text("1"));
        Identity { issuer, subject, email: email.map(text), email_verified, name: name.map(text) }
    }

    #[test]
    fn only_an_address_that_is_vouched_for_counts() {
        assert_eq!(vouched_for(&identity(Some(" Ada@Example.com "), true, None)), Some("ada@example.com".to_owned()));
        assert_eq!(vouched_for(&identity(Some("ada@example.com"), false, None)), None);
        assert_eq!(vouched_for(&identity(Some(""), true, None)), None);
        assert_eq!(vouched_for(&identity(None, true, None)), None);
    }

    #[test]
    fn everybody_has_a_name_that_can_be_shown() {
        for (email, name, expect) in [
            (Some("ada@example.com"), Some("Ada L."), "Ada L."),
            (Some("ada@example.com"), None, "ada"),
            (None, None, NAMELESS),
            (None, Some(" \u{7}"), NAMELESS),
        ] {
            assert_eq!(shown_name(&identity(email, true, name)), expect);
        }
        assert_eq!(shown_name(&identity(None, true, Some(&"x".repeat(1000)))).len(), MAX_NAME);
    }

    #[test]
    fn a_subject_belongs_to_its_issuer() {
        assert_ne!(subject_hash("https://a.example/b", "c"), subject_hash("https://a.example/", "bc"));
        assert_ne!(subject_hash("https://a.example", "1"), subject_hash("https://b.example", "1"));
    }
}
