//! What the credentials of a project must be allowed in Google Cloud IAM, what for, and how it is granted.
//!
//! Two things say what they are allowed. IAM is asked for all of it, where it can be asked; and what can be tried without
//! harm is tried, for Firestore may refuse what IAM grants. Neither is the whole truth: a grant with a condition on one
//! database is none on the project, and there the trial alone is believed.

use firebackup_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Code, ControlError, Result};
use crate::federation;
use crate::probes::ProjectFindings;
use crate::project::{Project, ProjectStatus};

/// What a permission is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// To find the project's databases and how they are set up; without it the database `(default)` is found alone.
    Databases,
    /// To back documents up.
    Backup,
    /// To restore documents.
    Restore,
    /// To back Auth users up, with their password hashes.
    AuthBackup,
    /// To restore Auth users.
    AuthRestore,
}

/// Who said what the credentials may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckedBy {
    /// Google Cloud IAM was asked for every permission, and reading and writing were tried.
    Iam,
    /// Reading and writing documents were tried. IAM could not be asked: nothing is known of Auth users.
    Trial,
}

/// When and how it was found out what the credentials may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermissionCheck {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Timestamp,
    /// By whose word.
    pub checked_by: CheckedBy,
}

/// Something that the credentials may not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingPermission {
    /// Such as `datastore.entities.list`.
    #[schema(example = "datastore.entities.list")]
    pub permission: String,
    /// What cannot be done without it.
    #[serde(default)]
    pub needed_for: Vec<Purpose>,
    /// How to grant it: a role, and the command that does.
    pub remedy: String,
}

/// To read a document: the permission that a trial of reading shows.
pub const READ_DOCUMENTS: &str = "datastore.entities.get";
/// To delete a document: the permission that a trial of writing shows.
pub const DELETE_DOCUMENTS: &str = "datastore.entities.delete";

const LIST_USERS: &str = "firebaseauth.users.get";
const CREATE_USERS: &str = "firebaseauth.users.create";
const ENTITIES: &str = "datastore.entities.";

/// The permissions that our calls take, and what for.
const PERMISSIONS: [(&str, &[Purpose]); 13] = [
    ("datastore.databases.getMetadata", &[Purpose::Databases]),
    ("datastore.databases.list", &[Purpose::Databases]),
    (READ_DOCUMENTS, &[Purpose::Backup, Purpose::Restore]),
    ("datastore.entities.list", &[Purpose::Backup, Purpose::Restore]),
    ("datastore.entities.create", &[Purpose::Restore]),
    (DELETE_DOCUMENTS, &[Purpose::Restore]),
    ("datastore.entities.update", &[Purpose::Restore]),
    ("firebaseauth.configs.get", &[Purpose::AuthBackup]),
    ("firebaseauth.configs.getHashConfig", &[Purpose::AuthBackup]),
    (LIST_USERS, &[Purpose::AuthBackup]),
    ("identitytoolkit.tenants.list", &[Purpose::AuthBackup]),
    (CREATE_USERS, &[Purpose::AuthRestore]),
    ("firebaseauth.users.update", &[Purpose::AuthRestore]),
];

/// A grant may have been given since, and nobody tells us: so long a refusal of IAM is taken for certain.
const CERTAIN_SECONDS: f64 = 3600.0;

/// The permissions that IAM is asked for.
#[must_use]
pub fn asked_permissions() -> Vec<&'static str> {
    PERMISSIONS.iter().map(|(name, _)| *name).collect()
}

impl ProjectFindings {
    /// By whose word they are.
    pub(crate) const fn checked_by(&self) -> CheckedBy {
        if self.granted.is_some() { CheckedBy::Iam } else { CheckedBy::Trial }
    }

    fn is_granted(&self, permission: &str) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.iter().any(|granted| granted == permission))
    }

    fn is_refused(&self, permission: &str) -> bool {
        self.refused.iter().any(|refused| refused == permission)
    }

    /// Whether what IAM says of the project holds for its databases: else a trial would not have shown more.
    fn holds_for_databases(&self) -> bool {
        self.allowed.iter().all(|allowed| self.is_granted(allowed))
    }

    fn is_missing(&self, permission: &str) -> bool {
        let is_judged = !permission.starts_with(ENTITIES) || self.holds_for_databases();
        self.is_refused(permission) || (is_judged && !self.is_granted(permission))
    }

    /// What is missing of all that is needed, and how `member` gets it in a Google project.
    pub(crate) fn missing(&self, google_project: &str, member: &str) -> Vec<MissingPermission> {
        let missing: Vec<_> = PERMISSIONS.iter().filter(|(name, _)| self.is_missing(name)).copied().collect();
        let with_remedy = |&(name, needed_for): &(&str, &[Purpose])| MissingPermission {
            permission: name.to_owned(),
            needed_for: needed_for.to_vec(),
            remedy: match self.granted.is_some() && self.is_granted(name) {
                true => REFUSED_ALL_THE_SAME.to_owned(),
                false => remedy(needed_for[0], &missing, google_project, member),
            },
        };
        missing.iter().map(with_remedy).collect()
    }
}

const REFUSED_ALL_THE_SAME: &str = "IAM grants it, and Firestore refuses all the same: look at VPC Service Controls and deny \
                                    policies; what was granted just now takes some minutes";

/// How everything is granted that is missing for a purpose.
fn remedy(purpose: Purpose, missing: &[(&str, &[Purpose])], google_project: &str, member: &str) -> String {
    match purpose {
        Purpose::Databases | Purpose::Backup => grant("roles/datastore.viewer", google_project, member),
        Purpose::Restore => grant("roles/datastore.user", google_project, member),
        Purpose::AuthBackup | Purpose::AuthRestore => {
            let of_users = missing.iter().filter(|(_, needed_for)| needed_for[0] == purpose);
            let names: Vec<&str> = of_users.map(|(name, _)| *name).collect();
            grant_own_role(&names.join(","), google_project, member)
        }
    }
}

fn grant(role: &str, google_project: &str, member: &str) -> String {
    format!("grant {role}: {}", binding(role, google_project, member))
}

/// No role of Google's has these and little else: the role is one of the project's own, made or extended.
fn grant_own_role(permissions: &str, google_project: &str, member: &str) -> String {
    let binding = binding(&format!("projects/{google_project}/roles/firebackupAuth"), google_project, member);
    format!(
        "grant a role that has it: (gcloud iam roles create firebackupAuth --project {google_project} --title 'FireBackup: \
         Firebase Auth users' --permissions {permissions} --stage GA || gcloud iam roles update firebackupAuth --project \
         {google_project} --add-permissions {permissions}) && {binding}"
    )
}

fn binding(role: &str, google_project: &str, member: &str) -> String {
    format!(
        "gcloud projects add-iam-policy-binding {google_project} --member '{member}' --role {role} --condition None"
    )
}

/// Whom roles are granted to, as `gcloud` names them; `MEMBER` where nobody is known, or the name fits no command.
pub(crate) fn member(service_account: Option<&str>, account: Option<&str>, audience: Option<&str>) -> String {
    let named = match (service_account, account, audience) {
        (Some(address), _, _) => Some(format!("serviceAccount:{address}")),
        (None, Some(address), _) => Some(format!("user:{address}")),
        (None, None, Some(audience)) => federation::pool(audience).map(|pool| format!("principalSet:{pool}/*")),
        (None, None, None) => None,
    };
    // it is somebody's word, and whoever reads it pastes it into a shell
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+-:/*".contains(&byte);
    named.filter(|member| member.bytes().all(is_plain)).unwrap_or_else(|| "MEMBER".to_owned())
}

/// A project is in order if it can be backed up: who restores grants more when the day comes, and takes it away again.
pub(crate) fn status_of(missing: &[MissingPermission]) -> ProjectStatus {
    match missing.iter().any(|missing| missing.needed_for.contains(&Purpose::Backup)) {
        true => ProjectStatus::Error,
        false => ProjectStatus::Connected,
    }
}

impl Project {
    /// Goes on unless IAM has said within the last hour that users cannot be listed, or created: the job would fail for sure.
    /// What it said before may not be so any more, and then the job is tried.
    pub(crate) fn check_permitted(&self, purpose: Purpose, now: Timestamp) -> Result<()> {
        let needed = match purpose {
            Purpose::AuthBackup => LIST_USERS,
            Purpose::AuthRestore => CREATE_USERS,
            Purpose::Databases | Purpose::Backup | Purpose::Restore => return Ok(()),
        };
        let is_certain = self.permissions.is_some_and(|check| now.seconds_since(check.checked_at) < CERTAIN_SECONDS);
        let missing = self.missing.iter().find(|missing| missing.permission == needed);
        missing.filter(|_| is_certain).map_or(Ok(()), |missing| Err(missing.refusal()))
    }
}

impl MissingPermission {
    fn refusal(&self) -> ControlError {
        let (permission, remedy) = (&self.permission, &self.remedy);
        let message =
            format!("the project's credentials lack {permission}; {remedy}; then have the project looked at again");
        ControlError::conflict(Code::PermissionMissing, message)
            .with_details(json!({ "permission": permission, "remedy": remedy }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MEMBER: &str = "serviceAccount:backup@my-app.iam.gserviceaccount.com";

    /// What IAM grants where it grants all but these.
    fn all_but(denied: &[&str]) -> ProjectFindings {
        let granted = asked_permissions().into_iter().filter(|name| !denied.contains(name)).map(str::to_owned);
        ProjectFindings { granted: Some(granted.collect()), ..ProjectFindings::default() }
    }

    fn names(missing: &[MissingPermission]) -> Vec<&str> {
        missing.iter().map(|missing| missing.permission.as_str()).collect()
    }

    fn check(findings: &ProjectFindings, expect: &[&str], status: ProjectStatus) -> Vec<MissingPermission> {
        let missing = findings.missing("my-app", MEMBER);
        assert_eq!((names(&missing), status_of(&missing)), (expect.to_vec(), status), "{findings:?}");
        missing
    }

    #[test]
    fn only_what_a_backup_of_documents_needs_is_an_error() {
        use ProjectStatus::{Connected, Error};
        check(&all_but(&[]), &[], Connected);
        for (name, needed_for) in PERMISSIONS {
            let status = if needed_for.contains(&Purpose::Backup) { Error } else { Connected };
            let missing = check(&all_but(&[name]), &[name], status);
            assert_eq!(missing[0].needed_for, needed_for);
            assert!(missing[0].remedy.contains("add-iam-policy-binding my-app"), "{missing:?}");
            assert!(missing[0].remedy.contains(&format!("--member '{MEMBER}'")), "{missing:?}");
        }
        assert_eq!(asked_permissions().into_iter().collect::<BTreeSet<_>>().len(), PERMISSIONS.len());
    }

    #[test]
    fn a_remedy_names_the_role_that_has_it() {
        let none = ProjectFindings { granted: Some(Vec::new()), ..ProjectFindings::default() };
        let missing = check(&none, &asked_permissions(), ProjectStatus::Error);
        let remedy = |name: &str| &missing.iter().find(|missing| missing.permission == name).unwrap().remedy;
        assert!(
            remedy("datastore.databases.list").starts_with("grant roles/datastore.viewer: gcloud projects add-iam-")
        );
        assert!(remedy(READ_DOCUMENTS).contains("--role roles/datastore.viewer --condition None"));
        assert!(remedy(DELETE_DOCUMENTS).contains("--role roles/datastore.user "));
        let users = remedy(LIST_USERS);
        assert!(users.contains("iam roles create firebackupAuth --project my-app"), "{users}");
        assert!(users.contains("iam roles update firebackupAuth --project my-app --add-permissions"), "{users}");
        assert!(users.contains("firebaseauth.configs.get,firebaseauth.configs.getHashConfig,firebaseauth.users.get,"));
        assert!(!users.contains(CREATE_USERS), "who only backs up creates no users: {users}");
        assert!(
            remedy(CREATE_USERS).contains("--permissions firebaseauth.users.create,firebaseauth.users.update --stage")
        );
        assert!(remedy(CREATE_USERS).contains("--role projects/my-app/roles/firebackupAuth "));
    }

    #[test]
    fn where_iam_could_not_be_asked_the_trial_is_believed() {
        let silent = ProjectFindings::default();
        assert_eq!(silent.checked_by(), CheckedBy::Trial);
        check(&silent, &[], ProjectStatus::Connected);
        let unreadable = ProjectFindings { refused: vec![READ_DOCUMENTS.to_owned()], ..silent.clone() };
        let missing = check(&unreadable, &[READ_DOCUMENTS], ProjectStatus::Error);
        assert!(missing[0].remedy.contains("roles/datastore.viewer"), "{missing:?}");
        let unwritable = ProjectFindings { refused: vec![DELETE_DOCUMENTS.to_owned()], ..silent };
        check(&unwritable, &[DELETE_DOCUMENTS], ProjectStatus::Connected);
        assert_eq!(all_but(&[READ_DOCUMENTS]).checked_by(), CheckedBy::Iam);
    }

    #[test]
    fn firestore_may_refuse_what_iam_grants_and_take_what_iam_does_not_know() {
        let refused = ProjectFindings { refused: vec![READ_DOCUMENTS.to_owned()], ..all_but(&[]) };
        let missing = check(&refused, &[READ_DOCUMENTS], ProjectStatus::Error);
        assert!(missing[0].remedy.contains("VPC Service Controls"), "{missing:?}");
        // a grant with a condition on the database is none on the project
        let conditional = all_but(&[READ_DOCUMENTS, "datastore.entities.list", DELETE_DOCUMENTS, LIST_USERS]);
        let allowed = vec![READ_DOCUMENTS.to_owned()];
        let tried = ProjectFindings { allowed, refused: vec![DELETE_DOCUMENTS.to_owned()], ..conditional.clone() };
        check(&tried, &[DELETE_DOCUMENTS, LIST_USERS], ProjectStatus::Connected);
        check(
            &conditional,
            &[READ_DOCUMENTS, "datastore.entities.list", DELETE_DOCUMENTS, LIST_USERS],
            ProjectStatus::Error,
        );
    }

    #[test]
    fn a_member_is_whoever_lets_us_in_and_never_a_command() {
        let account = "backup@my-app.iam.gserviceaccount.com";
        assert_eq!(member(Some(account), None, Some("//x/providers/y")), format!("serviceAccount:{account}"));
        assert_eq!(member(None, Some("ada@example.com"), None), "user:ada@example.com");
        let pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool";
        let audience = format!("{pool}/providers/org-x");
        assert_eq!(member(None, None, Some(&audience)), format!("principalSet:{pool}/*"));
        assert_eq!(member(None, None, None), "MEMBER");
        for hostile in ["a@b' --role roles/owner '", "a@b;curl x", "a@b`x`", "a@b$(x)", "a@b\nx"] {
            assert_eq!(member(Some(hostile), None, None), "MEMBER", "{hostile}");
        }
    }
}
