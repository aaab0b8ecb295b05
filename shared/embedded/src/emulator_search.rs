//! Where the Firestore emulator and Java are looked for.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Where the jar stands below a Google Cloud SDK.
const JAR_IN_SDK: &str = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";

/// The places to look in. Filled by hand, or from the system by [`EmulatorSearch::from_system`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmulatorSearch {
    /// Roots of Google Cloud SDKs, the first one first.
    pub sdk_roots: Vec<PathBuf>,
    /// The user's home folder, for the jar that firebase-tools keeps in its cache.
    pub home: Option<PathBuf>,
    /// The Java executable; nothing when there is none.
    pub java: Option<PathBuf>,
}

impl EmulatorSearch {
    /// Looks at the system: `CLOUDSDK_ROOT_DIR`, `HOME`, `JAVA_HOME`, and `gcloud` and `java` on `PATH`.
    ///
    /// This is the one place of the library that reads the environment: finding a program is a question to the
    /// system, and every test needs the answer.
    #[must_use]
    pub fn from_system() -> Self {
        Self::from_variables(|name| env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let path = set("PATH").unwrap_or_default();
        let mut sdk_roots: Vec<PathBuf> = set("CLOUDSDK_ROOT_DIR").map(PathBuf::from).into_iter().collect();
        sdk_roots.extend(on_path(&path, "gcloud").and_then(|gcloud| sdk_root_of(&gcloud)));
        sdk_roots.extend(usual_roots(home.as_deref()));
        let in_java_home = set("JAVA_HOME").map(|root| Path::new(&root).join("bin").join(executable("java")));
        let java = in_java_home.filter(|java| java.is_file()).or_else(|| on_path(&path, "java"));
        Self { sdk_roots, home, java }
    }

    /// The emulator's jar: from the first SDK that has it, else the newest in the cache of firebase-tools.
    #[must_use]
    pub fn jar(&self) -> Option<PathBuf> {
        let in_sdk = self.sdk_roots.iter().map(|root| root.join(JAR_IN_SDK)).find(|jar| jar.is_file());
        in_sdk.or_else(|| newest_cached_jar(&self.home.as_ref()?.join(".cache/firebase/emulators")))
    }
}

/// The places in which installers put the SDK.
fn usual_roots(home: Option<&Path>) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = [
        "/usr/lib/google-cloud-sdk",
        "/usr/share/google-cloud-sdk",
        "/opt/google-cloud-sdk",
        "/snap/google-cloud-cli/current",
        "/opt/homebrew/share/google-cloud-sdk",
        "/opt/homebrew/Caskroom/gcloud-cli/latest/google-cloud-sdk",
        "/opt/homebrew/Caskroom/google-cloud-sdk/latest/google-cloud-sdk",
        "/usr/local/share/google-cloud-sdk",
        "/usr/local/Caskroom/gcloud-cli/latest/google-cloud-sdk",
        "/usr/local/Caskroom/google-cloud-sdk/latest/google-cloud-sdk",
    ]
    .map(PathBuf::from)
    .into();
    roots.extend(home.map(|home| home.join("google-cloud-sdk")));
    roots
}

/// `<root>/bin/gcloud`, behind any symbolic links, names the root.
fn sdk_root_of(gcloud: &Path) -> Option<PathBuf> {
    Some(gcloud.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

fn on_path(path: &OsStr, program: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(executable(program))).find(|file| file.is_file())
}

fn executable(program: &str) -> String {
    format!("{program}{}", env::consts::EXE_SUFFIX)
}

/// firebase-tools names its jars by version and leaves old ones behind.
fn newest_cached_jar(cache: &Path) -> Option<PathBuf> {
    let jars = cache.read_dir().ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix("cloud-firestore-emulator-v")?.strip_suffix(".jar")?;
        let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
        Some((numbers?, path))
    });
    jars.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }

    #[test]
    fn the_first_sdk_that_has_the_jar_wins() {
        let folder = tempfile::tempdir().unwrap();
        let roots = ["a", "b", "c"].map(|name| folder.path().join(name));
        touch(&roots[1].join(JAR_IN_SDK));
        touch(&roots[2].join(JAR_IN_SDK));
        let search = EmulatorSearch { sdk_roots: roots.to_vec(), ..EmulatorSearch::default() };
        assert_eq!(search.jar(), Some(roots[1].join(JAR_IN_SDK)));
    }

    #[test]
    fn the_newest_jar_of_firebase_tools_is_taken_by_number() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cache/firebase/emulators");
        for name in ["v1.9.0.jar", "v1.19.8.jar", "v1.19.10.jar", "v1.20.0.zip", "vnext.jar"] {
            touch(&cache.join(format!("cloud-firestore-emulator-{name}")));
        }
        let search = EmulatorSearch { home: Some(home.path().to_owned()), ..EmulatorSearch::default() };
        assert_eq!(search.jar(), Some(cache.join("cloud-firestore-emulator-v1.19.10.jar")));
    }

    #[cfg(unix)]
    #[test]
    fn gcloud_on_the_path_leads_to_its_sdk_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        touch(&root.join("sdk/bin/gcloud"));
        touch(&root.join("jdk/bin/java"));
        fs::create_dir(root.join("bin")).unwrap();
        std::os::unix::fs::symlink("../sdk/bin/gcloud", root.join("bin/gcloud")).unwrap();
        let search = EmulatorSearch::from_variables(|name| match name {
            "PATH" => Some(root.join("bin").into()),
            "JAVA_HOME" => Some(root.join("jdk").into()),
            "HOME" => Some("".into()),
            _ => None,
        });
        assert_eq!(search.sdk_roots.first(), Some(&root.join("sdk")));
        assert_eq!((search.java, search.home), (Some(root.join("jdk/bin/java")), None));
    }
}
