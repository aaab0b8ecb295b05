//! Workload Identity Federation, looked at before it is kept.
//!
//! One AWS identity speaks for all organizations of an installation, so a Google project that lets it in lets in whoever
//! can name the provider. Therefore a provider bears the name of its organization: only somebody who administers the
//! pool can give it that name, and no other organization can use it.

use crate::id::OrganizationId;

const HOST: &str = "//iam.googleapis.com/";
const SERVICE_ACCOUNTS: &str = ".gserviceaccount.com";
/// The most bytes of an audience; the ids in it have at most 32 letters each.
const MAX_AUDIENCE: usize = 200;
/// As much as Google takes for any address.
const MAX_ADDRESS: usize = 320;

/// What the provider of an organization is called in its pool: `org-` and its ULID in small letters. Google takes 4 to 32
/// small letters, digits and hyphens.
#[must_use]
pub fn provider_name(organization: OrganizationId) -> String {
    format!("org-{}", organization.ulid().to_string().to_ascii_lowercase())
}

/// Goes on only with an audience of this organization.
///
/// # Errors
/// Says what was expected.
pub(crate) fn check_audience(audience: &str, organization: OrganizationId) -> Result<(), String> {
    let provider = provider_name(organization);
    let wanted = format!("{HOST}projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/{provider}");
    match provider_of(audience) {
        None => Err(format!("expected {wanted}")),
        Some(named) if named == provider => Ok(()),
        Some(_) => {
            Err(format!("the provider must be called {provider}, after this organization: no other can use it then"))
        }
    }
}

/// The name of the provider, if this is an audience.
fn provider_of(audience: &str) -> Option<&str> {
    if audience.len() > MAX_AUDIENCE {
        return None;
    }
    let parts: Vec<&str> = audience.strip_prefix(HOST)?.split('/').collect();
    match parts[..] {
        ["projects", number, "locations", "global", "workloadIdentityPools", pool, "providers", provider]
            if is_number(number) && is_name(pool) && is_name(provider) =>
        {
            Some(provider)
        }
        _ => None,
    }
}

/// The pool of an audience that was looked at, as it stands in the names of its members: `//iam.googleapis.com/projects/…`.
pub(crate) fn pool(audience: &str) -> Option<&str> {
    audience.rsplit_once("/providers/").map(|(pool, _)| pool)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (4..=32).contains(&text.len()) && text.bytes().all(is_letter)
}

/// Goes on only with the address of a service account: it becomes a part of a URL.
///
/// # Errors
/// Says what was expected.
pub(crate) fn check_service_account(address: &str) -> Result<(), &'static str> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_letter);
    match address.split_once('@') {
        Some((name, domain))
            if address.len() <= MAX_ADDRESS
                && domain.ends_with(SERVICE_ACCOUNTS)
                && is_part(name)
                && is_part(domain) =>
        {
            Ok(())
        }
        _ => Err("expected the address of a service account, such as firebackup@my-app.iam.gserviceaccount.com"),
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    const PROVIDER: &str = "org-01arz3ndektsv4rrffq69g5fav";

    fn organization() -> OrganizationId {
        OrganizationId::from(Ulid::from_string("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap())
    }

    fn audience(provider: &str) -> String {
        format!(
            "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/firebackup/providers/{provider}"
        )
    }

    #[test]
    fn a_provider_bears_the_name_of_its_organization() {
        assert_eq!(provider_name(organization()), PROVIDER);
        assert!(is_name(PROVIDER));
        assert_eq!(check_audience(&audience(PROVIDER), organization()), Ok(()));
        for other in ["aws1", "org-01arz3ndektsv4rrffq69g5faw", "org-01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
            let refusal = check_audience(&audience(other), organization()).unwrap_err();
            assert!(refusal.contains(PROVIDER), "{refusal}");
        }
    }

    #[test]
    fn an_audience_is_a_provider_of_google() {
        let good = audience(PROVIDER);
        for bad in [
            String::new(),
            good.replace("//iam", "https://iam"),
            good.replace("googleapis.com", "example.com"),
            good.replace("123", "my-app"),
            good.replace("123", ""),
            good.replace("global", "eu"),
            good.replace("firebackup", "a/b"),
            good.replace("firebackup", "a%2fb"),
            good.replace("firebackup", &"a".repeat(33)),
            format!("{good}/"),
            format!("{good}?x"),
            format!("{good}\n"),
        ] {
            let refusal = check_audience(&bad, organization()).unwrap_err();
            assert!(refusal.contains(PROVIDER), "{bad}: {refusal}");
        }
    }

    #[test]
    fn a_service_account_has_an_address_of_google() {
        for good in ["firebackup@my-app.iam.gserviceaccount.com", "123-compute@developer.gserviceaccount.com"] {
            assert_eq!(check_service_account(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "firebackup",
            "@my-app.iam.gserviceaccount.com",
            "a@gserviceaccount.com.example",
            "a/../b@my-app.iam.gserviceaccount.com",
            "a@b@my-app.iam.gserviceaccount.com",
            "a?b=@my-app.iam.gserviceaccount.com",
            "a@http://169.254.169.254/.gserviceaccount.com",
        ] {
            assert!(check_service_account(bad).is_err(), "{bad}");
        }
    }
}
