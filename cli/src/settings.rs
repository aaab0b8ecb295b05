//! Arguments and environment variables, made typed.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use firebackup_engine::Secrets;
use firebackup_google::Access;
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::{DatabaseName, PortError};
use firebackup_storage::{Destination, DestinationSettings};
use url::Url;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::keys::KeySettings;

const REPO: &str = "FIREBACKUP_REPO";
const PROJECT: &str = "FIREBACKUP_PROJECT";
const GOOGLE_PROJECT: &str = "GOOGLE_CLOUD_PROJECT";
const FIRESTORE_EMULATOR: &str = "FIRESTORE_EMULATOR_HOST";
const AUTH_EMULATOR: &str = "FIREBASE_AUTH_EMULATOR_HOST";
/// The schemes of a repository's URL, for those that lack the slashes behind it.
const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];
/// What the storage clients are handed of the environment.
const STORAGE_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// What every command may need.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    repo: Option<String>,
    pub(crate) storage: DestinationSettings,
    /// A project that was named for FireBackup itself.
    named_project: Option<String>,
    /// A project that is in the environment for all of Google's tools.
    ambient_project: Option<String>,
    named_database: Option<String>,
    pub(crate) access: Access,
    auth_emulator: Option<String>,
    keys: KeySettings,
    /// Where this user's programs keep what belongs to this machine; nothing where nobody says so.
    pub(crate) state_folder: Option<PathBuf>,
}

impl Settings {
    /// Arguments win over the environment.
    ///
    /// # Errors
    /// When the repository's folder cannot be made absolute, or a project or an emulator's address cannot be understood.
    pub(crate) fn new(global: &GlobalArgs, environment: &Environment) -> Result<Self> {
        let argument_or = |argument: &Option<String>, name: &str| {
            argument.clone().or_else(|| environment.get(name).map(str::to_owned)).filter(|text| !text.is_empty())
        };
        let repo = argument_or(&global.repo, REPO).map(|text| repository_url(&text)).transpose()?;
        let storage = storage_settings(global, environment, repo.as_deref());
        let access = match (emulator_host(environment, FIRESTORE_EMULATOR)?, &global.credentials) {
            (Some(host), _) => Access::Emulator { host },
            (None, Some(file)) => Access::ServiceAccountFile(file.clone()),
            (None, None) => Access::ApplicationDefault,
        };
        Ok(Self {
            repo,
            storage,
            named_project: argument_or(&global.project, PROJECT).map(|text| project(&text)).transpose()?,
            ambient_project: environment.get(GOOGLE_PROJECT).map(str::to_owned),
            named_database: global.database.clone(),
            access,
            auth_emulator: emulator_host(environment, AUTH_EMULATOR)?,
            keys: KeySettings { global: global.clone(), environment: environment.clone() },
            state_folder: state_folder(environment),
        })
    }

    /// The repository's URL.
    ///
    /// # Errors
    /// When none was named, or the URL cannot be understood.
    pub(crate) fn repo(&self) -> Result<&str> {
        let repo = self.repo.as_deref();
        let repo =
            repo.ok_or_else(|| CliError::Usage(format!("no repository was named: give --repo URL, or set {REPO}")))?;
        let unclear = |error: PortError| {
            CliError::Usage(format!("could not understand the url of the repository: {}", error.message()))
        };
        Destination::check_url(repo).map_err(unclear)?;
        Ok(repo)
    }

    /// The database to read.
    ///
    /// # Errors
    /// When no project was named, or what the environment names is none.
    pub(crate) fn database(&self) -> Result<DatabaseName> {
        let named = self.named_project.as_ref().or(self.ambient_project.as_ref());
        let named = named
            .ok_or_else(|| CliError::Usage(format!("no project was named: give --project ID, or set {PROJECT}")))?;
        Ok(DatabaseName::new(project(named)?, self.named_database.as_deref().unwrap_or(DEFAULT_DATABASE)))
    }

    /// The database that was named for FireBackup itself, if one was.
    pub(crate) fn named_database(&self) -> Option<DatabaseName> {
        let project = self.named_project.as_ref()?;
        Some(DatabaseName::new(project, self.named_database.as_deref().unwrap_or(DEFAULT_DATABASE)))
    }

    /// Whether a snapshot of `database` is of what was named, as far as something was. A project that is in the
    /// environment for all of Google's tools names nothing here.
    pub(crate) fn names(&self, database: &DatabaseName) -> bool {
        self.named_project.as_ref().is_none_or(|project| *project == database.project)
            && self.named_database.as_ref().is_none_or(|name| *name == database.database)
    }

    /// As [`Self::names`], and with a project named the database is `(default)` unless another one is: two databases in
    /// one repository must not be taken for each other.
    pub(crate) fn latest_may_be_of(&self, database: &DatabaseName) -> bool {
        let is_default = self.named_database.is_some() || database.database == DEFAULT_DATABASE;
        self.names(database) && (self.named_project.is_none() || is_default)
    }

    /// Whether Firestore is an emulator.
    pub(crate) const fn is_emulator(&self) -> bool {
        self.emulator().is_some()
    }

    /// Host and port of the Firestore emulator, if one is used.
    pub(crate) const fn emulator(&self) -> Option<&str> {
        match &self.access {
            Access::Emulator { host } => Some(host.as_str()),
            _ => None,
        }
    }

    /// How Auth users are reached.
    ///
    /// # Errors
    /// When documents come from an emulator and users would come from production.
    pub(crate) fn auth_access(&self) -> Result<Access> {
        match (&self.auth_emulator, self.is_emulator()) {
            (Some(host), _) => Ok(Access::Emulator { host: host.clone() }),
            (None, false) => Ok(self.access.clone()),
            (None, true) => Err(CliError::Refused(format!(
                "{FIRESTORE_EMULATOR} is set and {AUTH_EMULATOR} is not: documents would be an emulator's and Auth users \
                 production's; set both or none"
            ))),
        }
    }

    /// What the user holds, read from files and the environment.
    ///
    /// # Errors
    /// When a key file or a key cannot be used.
    pub(crate) fn secrets(&self) -> Result<Secrets> {
        self.keys.secrets()
    }

    /// The ARNs of KMS keys that open the repository.
    pub(crate) fn kms_keys(&self) -> &[String] {
        &self.keys.global.kms_keys
    }

    /// The arguments by which another command finds the same repository and keys, for commands that are printed.
    pub(crate) fn same_repository(&self) -> Vec<String> {
        let global = &self.keys.global;
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(repo) = &self.repo {
            add("--repo", repo.clone());
        }
        if let Some(endpoint) = &global.endpoint {
            add("--endpoint", endpoint.clone());
        }
        let files = [
            ("--credentials", &global.credentials),
            ("--passphrase-file", &global.passphrase_file),
            ("--recovery-key-file", &global.recovery_key_file),
            ("--signing-key-file", &global.signing_key_file),
        ];
        for file in &global.master_key_files {
            add("--master-key-file", file.display().to_string());
        }
        for (name, file) in files {
            if let Some(file) = file {
                add(name, file.display().to_string());
            }
        }
        for key in &global.kms_keys {
            add("--kms", key.clone());
        }
        for key in &global.writer_keys {
            add("--writer-key", key.clone());
        }
        if global.allow_unencrypted {
            arguments.push("--allow-unencrypted".to_owned());
        }
        arguments
    }
}

/// A project of the environment: an argument is looked at where arguments are read.
fn project(text: &str) -> Result<String> {
    project_id(text).map_err(CliError::Usage)
}

/// A project's id, as far as it can be told from what would point to something else in a resource name.
///
/// # Errors
/// When it is none.
pub(crate) fn project_id(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no project id")) }
}

/// As [`project_id`], of a project about which nothing else is known: as Google Cloud spells them.
///
/// # Errors
/// When it is none.
pub(crate) fn new_project_id(text: &str) -> Result<String, String> {
    let is_spelt = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.:".contains(letter);
    let is_one = text.starts_with(|letter: char| letter.is_ascii_lowercase()) && text.chars().all(is_spelt);
    if is_one { Ok(text.to_owned()) } else { Err(format!("`{text}` is no project id")) }
}

/// As [`project_id`], of a database.
///
/// # Errors
/// When it is none.
pub(crate) fn database_id(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err(format!("`{text}` is no database id")) }
}

fn is_id(text: &str) -> bool {
    let is_foreign = |letter: char| letter == '/' || letter.is_whitespace() || letter.is_control();
    !text.is_empty() && !text.contains(is_foreign)
}

/// As the XDG base directories say it: what is no absolute path is none.
fn state_folder(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(user.or_else(|| absolute("LOCALAPPDATA"))?.join("firebackup"))
}

/// The `host:port` of an emulator, from a variable that may hold it as a URL.
fn emulator_host(environment: &Environment, variable: &str) -> Result<Option<String>> {
    let Some(text) = environment.get(variable) else { return Ok(None) };
    let host = text.strip_prefix("http://").unwrap_or(text);
    let host = host.strip_suffix('/').unwrap_or(host);
    if is_host_and_port(host) {
        return Ok(Some(host.to_owned()));
    }
    Err(CliError::Usage(format!("could not use {variable}: expected host:port, such as localhost:8080")))
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter)),
    };
    // a number in Rust's eyes may begin with a plus
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_host && is_port
}

/// A URL as it is, and a path as the URL of a folder.
fn repository_url(text: &str) -> Result<String> {
    let names_a_scheme = text.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
    if names_a_scheme || text.contains("://") {
        return Ok(text.to_owned());
    }
    let folder = std::path::absolute(text).map_err(CliError::file("find the folder", text))?;
    folder_url(&folder)
}

/// The URL of a folder.
///
/// # Errors
/// When the path is not absolute.
pub(crate) fn folder_url(folder: &Path) -> Result<String> {
    let url = Url::from_file_path(folder)
        .map_err(|()| CliError::Usage(format!("{} is no absolute path of a folder", folder.display())))?;
    Ok(url.to_string())
}

fn storage_settings(global: &GlobalArgs, environment: &Environment, repo: Option<&str>) -> DestinationSettings {
    let is_storage = |name: &str| STORAGE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut options = environment.select(is_storage);
    let says_google = options.iter().any(|(name, _)| {
        matches!(
            name.as_str(),
            "GOOGLE_APPLICATION_CREDENTIALS" | "GOOGLE_SERVICE_ACCOUNT" | "GOOGLE_SERVICE_ACCOUNT_KEY"
        )
    });
    if let (Some(file), false, Some(true)) =
        (&global.credentials, says_google, repo.map(|repo| repo.starts_with("gs:")))
    {
        options.push(("GOOGLE_SERVICE_ACCOUNT".to_owned(), file.display().to_string()));
    }
    DestinationSettings { endpoint: global.endpoint.clone(), options, public_only: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(global: &GlobalArgs, environment: &[(&str, &str)]) -> Settings {
        Settings::new(global, &Environment::of(environment)).unwrap()
    }

    #[test]
    fn arguments_win_over_the_environment_and_an_empty_variable_is_none() {
        let global = GlobalArgs { project: Some("a".to_owned()), ..GlobalArgs::default() };
        let environment = [(PROJECT, "b"), (GOOGLE_PROJECT, "c"), (REPO, "s3://bucket/p")];
        let both = settings(&global, &environment);
        assert_eq!(both.database().unwrap(), DatabaseName::new("a", "(default)"));
        assert_eq!(both.repo().unwrap(), "s3://bucket/p");
        let from_environment = settings(&GlobalArgs::default(), &environment);
        assert_eq!(from_environment.database().unwrap().project, "b");
        let empty = settings(&GlobalArgs::default(), &[(PROJECT, ""), (GOOGLE_PROJECT, "c"), (REPO, "")]);
        assert_eq!(empty.database().unwrap().project, "c");
        assert_eq!(empty.repo().unwrap_err().exit(), crate::exit::Exit::Usage);
        let nothing = settings(&GlobalArgs::default(), &[]);
        assert_eq!(nothing.database().unwrap_err().exit(), crate::exit::Exit::Usage);
    }

    #[test]
    fn what_is_no_id_is_bad_usage_wherever_it_comes_from() {
        for good in ["my-app", "example.com:my-app", "(default)"] {
            assert_eq!((project_id(good), database_id(good)), (Ok(good.to_owned()), Ok(good.to_owned())));
        }
        for bad in ["", "a/b", "a b", "a\u{7}", "a\n", "\u{a0}"] {
            assert!(project_id(bad).is_err() && database_id(bad).is_err(), "{bad:?}");
            if bad.is_empty() {
                continue;
            }
            let named = Settings::new(&GlobalArgs::default(), &Environment::of(&[(PROJECT, bad)])).unwrap_err();
            let ambient = settings(&GlobalArgs::default(), &[(GOOGLE_PROJECT, bad)]).database().unwrap_err();
            for error in [named, ambient] {
                assert_eq!(error.exit(), crate::exit::Exit::Usage, "{bad:?}");
                assert!(error.to_string().ends_with("is no project id"), "{error}");
            }
        }
    }

    #[test]
    fn state_stands_where_the_user_says_or_below_home() {
        let folder = |environment: &[(&str, &str)]| settings(&GlobalArgs::default(), environment).state_folder;
        let home = ("HOME", "/home/ann");
        assert_eq!(folder(&[home]), Some("/home/ann/.local/state/firebackup".into()));
        assert_eq!(folder(&[home, ("XDG_STATE_HOME", "/state")]), Some("/state/firebackup".into()));
        assert_eq!(folder(&[home, ("XDG_STATE_HOME", "state")]), Some("/home/ann/.local/state/firebackup".into()));
        assert_eq!(folder(&[]), None);
    }

    #[test]
    fn an_ambient_project_names_no_snapshot() {
        let database = DatabaseName::new("p", "(default)");
        assert!(settings(&GlobalArgs::default(), &[(GOOGLE_PROJECT, "other")]).names(&database));
        assert!(!settings(&GlobalArgs::default(), &[(PROJECT, "other")]).names(&database));
        let second = DatabaseName::new("p", "second");
        assert!(settings(&GlobalArgs::default(), &[(PROJECT, "p")]).names(&second));
        assert!(!settings(&GlobalArgs::default(), &[(PROJECT, "p")]).latest_may_be_of(&second));
        assert!(settings(&GlobalArgs::default(), &[]).latest_may_be_of(&second));
        let other_database = GlobalArgs { database: Some("other".to_owned()), ..GlobalArgs::default() };
        assert!(!settings(&other_database, &[(PROJECT, "p")]).names(&database));
    }

    #[test]
    fn an_emulator_is_never_mixed_with_production() {
        let both =
            settings(&GlobalArgs::default(), &[(FIRESTORE_EMULATOR, "localhost:1"), (AUTH_EMULATOR, "localhost:2")]);
        assert_eq!(both.auth_access().unwrap(), Access::Emulator { host: "localhost:2".to_owned() });
        assert!(settings(&GlobalArgs::default(), &[(FIRESTORE_EMULATOR, "localhost:1")]).auth_access().is_err());
        assert_eq!(settings(&GlobalArgs::default(), &[]).auth_access().unwrap(), Access::ApplicationDefault);
    }

    #[test]
    fn an_emulator_may_be_named_by_its_url_and_by_nothing_else() {
        for (text, host) in [
            ("localhost:8080", "localhost:8080"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://127.0.0.1:9099/", "127.0.0.1:9099"),
            ("firestore_emulator.test:1/", "firestore_emulator.test:1"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            let emulators = settings(&GlobalArgs::default(), &[(FIRESTORE_EMULATOR, text), (AUTH_EMULATOR, text)]);
            let expected = Access::Emulator { host: host.to_owned() };
            assert_eq!((&emulators.access, emulators.auth_access().unwrap()), (&expected, expected.clone()), "{text}");
        }
        for bad in [
            "localhost",
            "https://localhost:8080",
            "http://http://localhost:8080",
            "localhost:8080/path",
            "localhost:8080//",
            "localhost:",
            "localhost:+80",
            "localhost:0",
            "localhost:65536",
            ":8080",
            "::1:8080",
            "user:secret@localhost:8080",
            "local host:8080",
            "8080",
        ] {
            for variable in [FIRESTORE_EMULATOR, AUTH_EMULATOR] {
                let environment = Environment::of(&[(variable, bad)]);
                let error = Settings::new(&GlobalArgs::default(), &environment).unwrap_err();
                assert_eq!(error.exit(), crate::exit::Exit::Usage, "{bad}");
                let text = error.to_string();
                assert!(
                    text.contains(variable) && text.contains("expected host:port, such as localhost:8080"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_url_that_cannot_be_understood_is_bad_usage() {
        for bad in
            ["ftp://bucket/x", "s3://", "s3:bucket", "gs:/bucket", "s3://buc ket", "file://host/x", "file:x", "://"]
        {
            let global = GlobalArgs { repo: Some(bad.to_owned()), ..GlobalArgs::default() };
            let error = settings(&global, &[]).repo().unwrap_err();
            assert_eq!((error.exit(), error.kind()), (crate::exit::Exit::Usage, "usage"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_path_is_a_folder_and_a_url_stays() {
        assert_eq!(repository_url("s3://bucket/a b").unwrap(), "s3://bucket/a b");
        assert_eq!(repository_url("file:///srv/backups").unwrap(), "file:///srv/backups");
        assert_eq!(repository_url("/srv/my backups").unwrap(), "file:///srv/my%20backups");
        let relative = repository_url("backups").unwrap();
        assert!(relative.starts_with("file:///") && relative.ends_with("/backups"), "{relative}");
    }

    #[test]
    fn storage_is_handed_its_part_of_the_environment_and_nothing_else() {
        let environment = Environment::of(&[("AWS_REGION", "r"), ("HOME", "h"), ("FIREBACKUP_MASTER_KEY", "k")]);
        let global = GlobalArgs { credentials: Some("sa.json".into()), ..GlobalArgs::default() };
        let storage = storage_settings(&global, &environment, Some("gs://bucket"));
        let names: Vec<_> = storage.options.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["AWS_REGION", "GOOGLE_SERVICE_ACCOUNT"]);
        assert_eq!(storage_settings(&global, &environment, Some("s3://bucket")).options.len(), 1);
    }
}
