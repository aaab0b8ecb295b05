//! The arrows between the crates, as ARCHITECTURE.md draws them: who may depend on whom, and who may touch an SDK.
//!
//! Declared dependencies are read from `cargo metadata`, whole trees from `cargo tree` (which resolves the features of
//! one crate alone, as a build of that crate would). A crate without a rule is a violation: whoever adds one says here
//! what it may touch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};

const OURS: &str = "firebackup-";
const TESTKIT: &str = "firebackup-testkit";
const TESTS: &str = "firebackup-tests";

/// What one crate may touch.
struct Rule {
    name: &'static str,
    /// The crates of ours that it may depend on outside its tests.
    ours: &'static [&'static str],
    /// Crates that it may not name outside its tests; a `*` at the end stands for any ending.
    never: &'static [&'static str],
    /// Crates that may stand nowhere in the tree of its build, however deep.
    never_below: &'static [&'static str],
}

const SDKS: &[&str] = &["gcloud-sdk", "firestore", "aws-sdk-*", "aws-config"];
const NETWORK: &[&str] = &["tonic", "reqwest", "hyper", "gcloud-sdk", "firestore", "aws-sdk-*", "aws-config"];

const RULES: &[Rule] = &[
    // Stands in for a crate that the clients of S3 name: it knows nothing of ours.
    Rule { name: "crc-fast", ours: &[], never: &["tokio", "futures", "aws-*"], never_below: NETWORK },
    Rule {
        name: "firebackup-model",
        ours: &[],
        never: &["tokio", "reqwest", "tonic", "aws-*", "gcloud-sdk", "firestore", "rand", "rand_core"],
        never_below: &["tokio", "tonic", "reqwest", "hyper", "gcloud-sdk", "firestore", "aws-*"],
    },
    Rule {
        name: "firebackup-codec",
        ours: &["firebackup-model"],
        never: &["tokio", "futures", "async-trait", "object_store", "reqwest", "tonic", "aws-*", "gcloud-sdk"],
        never_below: &["tokio", "tonic", "reqwest", "hyper", "gcloud-sdk", "firestore", "aws-*"],
    },
    Rule {
        name: "firebackup-engine",
        ours: &["firebackup-model", "firebackup-codec"],
        never: &["gcloud-sdk", "firestore", "tonic", "reqwest", "http", "axum", "aws-*", "rand"],
        never_below: NETWORK,
    },
    Rule {
        name: "firebackup-google",
        ours: &["firebackup-model"],
        never: &["aws-sdk-*", "aws-config", "object_store"],
        never_below: &["aws-sdk-*", "aws-config"],
    },
    Rule { name: "firebackup-storage", ours: &["firebackup-model"], never: SDKS, never_below: SDKS },
    Rule { name: "firebackup-embedded", ours: &["firebackup-model"], never: SDKS, never_below: SDKS },
    // The one crate that may have the SDKs of AWS; they bring no other SDK.
    Rule {
        name: "firebackup-aws",
        ours: &["firebackup-model"],
        never: &["gcloud-sdk", "firestore", "object_store", "tonic", "reqwest", "axum", "rusqlite"],
        never_below: &["gcloud-sdk", "firestore", "tonic"],
    },
    // Whom others choose is called from here alone. Signatures are checked by what TLS is linked with already.
    Rule {
        name: "firebackup-outbound",
        ours: &["firebackup-model"],
        never: &["gcloud-sdk", "firestore", "aws-*", "object_store", "tonic", "axum", "rusqlite"],
        never_below: &["gcloud-sdk", "firestore", "aws-sdk-*", "aws-config", "tonic", "rsa", "ring"],
    },
    Rule {
        name: "firebackup-control",
        ours: &["firebackup-model", "firebackup-codec"],
        never: &["gcloud-sdk", "firestore", "tonic", "reqwest", "http", "axum", "aws-*", "lambda_*", "rusqlite"],
        never_below: NETWORK,
    },
    Rule {
        name: "firebackup-http",
        ours: &["firebackup-model", "firebackup-control", "firebackup-engine"],
        never: &["gcloud-sdk", "firestore", "tonic", "reqwest", "aws-*", "lambda_*", "rusqlite"],
        never_below: SDKS,
    },
    Rule {
        name: "firebackup-bootstrap",
        ours: &[
            "firebackup-model",
            "firebackup-codec",
            "firebackup-engine",
            "firebackup-control",
            "firebackup-http",
            "firebackup-google",
            "firebackup-storage",
            "firebackup-embedded",
            "firebackup-aws",
            "firebackup-outbound",
        ],
        never: SDKS,
        never_below: &[],
    },
    Rule { name: TESTKIT, ours: &["firebackup-model"], never: &["firestore", "aws-*"], never_below: &["aws-sdk-*"] },
    Rule {
        name: "firebackup-cli",
        ours: &[
            "firebackup-model",
            "firebackup-codec",
            "firebackup-engine",
            "firebackup-google",
            "firebackup-storage",
            "firebackup-embedded",
            "firebackup-aws",
            "firebackup-bootstrap",
            "firebackup-http",
            "firebackup-control",
        ],
        never: SDKS,
        never_below: &[],
    },
    Rule {
        name: "firebackup-function*",
        ours: &["firebackup-model", "firebackup-bootstrap", "firebackup-function-*"],
        never: SDKS,
        never_below: &[],
    },
    // The tests may use everything, and as development dependencies only: nothing can come to depend on them.
    Rule { name: TESTS, ours: &[], never: &["*"], never_below: &["*"] },
];

/// A declared dependency.
struct Dependency {
    name: String,
    kind: DependencyKind,
    features: Vec<String>,
}

/// A member of the workspace.
struct Member {
    name: String,
    manifest: PathBuf,
    dependencies: Vec<Dependency>,
}

impl Member {
    /// What the crate itself is built with, its tests left out.
    fn built_with(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development)
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn any_matches(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

/// What the declared dependencies of `member` break.
fn declared_violations(member: &Member) -> Vec<String> {
    let Some(rule) = RULES.iter().find(|rule| matches(rule.name, &member.name)) else {
        return vec![format!("{} has no rule: say here what it may depend on", member.name)];
    };
    let mut found = Vec::new();
    for dependency in member.built_with() {
        let (from, to) = (&member.name, &dependency.name);
        if to.starts_with(OURS) && !any_matches(rule.ours, to) {
            found.push(format!("{from} may not depend on {to}"));
        }
        if any_matches(rule.never, to) {
            found.push(format!("{from} may not touch {to}"));
        }
        if to == "object_store" && from == "firebackup-engine" && !dependency.features.is_empty() {
            found.push(format!("{from} uses object_store for its trait: no features {:?}", dependency.features));
        }
    }
    found
}

/// What the names in the tree of a crate's build break.
fn tree_violations(crate_name: &str, tree: &BTreeSet<String>) -> Vec<String> {
    let Some(rule) = RULES.iter().find(|rule| matches(rule.name, crate_name)) else { return Vec::new() };
    let below = tree.iter().filter(|name| *name != crate_name && any_matches(rule.never_below, name));
    below.map(|name| format!("{crate_name} brings in {name}, which `cargo tree -i {name}` explains")).collect()
}

/// What a member's manifest breaks: lints and every version stand in the workspace's own manifest, once.
fn manifest_violations(member: &str, manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = "";
    let mut lints = false;
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line.trim_start_matches('[').trim_end_matches(']');
            if section.contains("dependencies.") {
                found.push(format!("{member}: write [{section}] as one line `name = {{ workspace = true, … }}`"));
            }
        } else if section.ends_with("dependencies") && !from_workspace(line) {
            found.push(format!("{member}: `{line}` does not say `workspace = true`"));
        } else if section == "lints" && from_workspace(line) {
            lints = true;
        }
    }
    if !lints {
        found.push(format!("{member} does not take its lints from the workspace"));
    }
    found
}

fn from_workspace(line: &str) -> bool {
    let dense: String = line.split_whitespace().collect();
    ["workspace=true", ".workspace=true"].iter().any(|ending| dense.ends_with(ending))
        || dense.contains("{workspace=true")
        || dense.contains(",workspace=true")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace").to_owned()
}

fn members() -> Vec<Member> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers in the workspace");
    let packages = metadata.workspace_packages();
    let members: Vec<Member> = packages
        .into_iter()
        .map(|package| Member {
            name: package.name.to_string(),
            manifest: package.manifest_path.clone().into(),
            dependencies: package
                .dependencies
                .iter()
                .map(|dependency| Dependency {
                    name: dependency.name.clone(),
                    kind: dependency.kind,
                    features: dependency.features.clone(),
                })
                .collect(),
        })
        .collect();
    assert!(members.len() >= RULES.len(), "the workspace has lost a crate: take its rule out");
    members
}

/// The names of all crates that a build of `crate_name` compiles for this machine, over `edges` (`normal`, `dev`, …).
fn tree(crate_name: &str, edges: &str) -> BTreeSet<String> {
    let text = printed_tree(&["--format", "{p}", "--edges", edges, "--package", crate_name]);
    let names: BTreeSet<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(names.contains(crate_name), "cargo tree does not name {crate_name} itself:\n{text}");
    names
}

fn printed_tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--quiet", "--prefix", "none"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// The features that every crate (with its version) is built with, over `edges`, when the whole workspace is built.
fn features(edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = printed_tree(&["--workspace", "--format", "{p}|{f}", "--edges", edges]);
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    // an empty line stands between the members
    for (name, features) in text.lines().filter_map(|line| line.split_once('|')) {
        let features = features.trim_end_matches(" (*)");
        let enabled = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned);
        found.entry(name.to_owned()).or_default().extend(enabled);
    }
    found
}

#[track_caller]
fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n  {}\n", violations.join("\n  "));
}

#[test]
fn crates_declare_only_what_their_place_allows() {
    assert_none(members().iter().flat_map(declared_violations).collect());
}

#[test]
fn no_sdk_hides_deep_in_the_tree_of_a_crate_that_may_not_have_it() {
    // a rule of many crates is held by what they are made of, each of which has one of its own
    let single = RULES.iter().filter(|rule| !rule.name.ends_with('*'));
    assert_none(single.flat_map(|rule| tree_violations(rule.name, &tree(rule.name, "normal,build"))).collect());
}

#[test]
fn the_tests_of_the_pure_crates_build_no_sdk() {
    for name in ["firebackup-model", "firebackup-codec", "firebackup-engine"] {
        let with_tests = tree(name, "normal,build,dev");
        let sdks: Vec<_> = with_tests.iter().filter(|crate_name| any_matches(SDKS, crate_name)).collect();
        assert!(sdks.is_empty(), "`cargo test -p {name}` builds {sdks:?}");
    }
}

#[test]
fn programs_are_tested_with_the_features_that_they_are_shipped_with() {
    // what the tests add to the programs that they build for themselves (`binary::built`): nothing that changes them
    let harmless = ["num-traits default", "semver serde", "serde_json unbounded_depth", "tokio test-util"];
    let tested = features("all");
    assert!(tested.len() > 400, "cargo tree has lost crates: {}", tested.len());
    let mut added = BTreeSet::new();
    for (name, shipped) in features("no-dev") {
        let word = name.split_whitespace().next().expect("a name").to_owned();
        added.extend(tested[&name].difference(&shipped).map(|feature| format!("{word} {feature}")));
    }
    assert_eq!(Vec::from_iter(added), harmless, "tests turn features on: say here why that cannot matter");
}

#[test]
fn members_take_lints_and_versions_from_the_workspace() {
    let read = |member: &Member| fs::read_to_string(&member.manifest).expect("the manifest that cargo read");
    assert_none(members().iter().flat_map(|member| manifest_violations(&member.name, &read(member))).collect());
}

fn made_up(name: &str, dependencies: &[(&str, DependencyKind)]) -> Member {
    let dependencies = dependencies
        .iter()
        .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: *kind, features: Vec::new() })
        .collect();
    Member { name: name.to_owned(), manifest: PathBuf::new(), dependencies }
}

#[test]
fn the_checker_finds_a_forbidden_arrow() {
    let (normal, build, dev) = (DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development);
    let check = |member: &Member, expect: &[&str]| assert_eq!(declared_violations(member), expect);

    check(&made_up("firebackup-codec", &[("firebackup-model", normal), ("zstd", normal)]), &[]);
    check(&made_up("firebackup-storage", &[(TESTKIT, dev)]), &[]);
    check(
        &made_up("firebackup-google", &[("firebackup-engine", normal)]),
        &["firebackup-google may not depend on firebackup-engine"],
    );
    check(&made_up("firebackup-model", &[("aws-types", build)]), &["firebackup-model may not touch aws-types"]);
    check(&made_up("firebackup-cli", &[(TESTKIT, normal)]), &["firebackup-cli may not depend on firebackup-testkit"]);
    check(&made_up("firebackup-cli", &[("gcloud-sdk", normal)]), &["firebackup-cli may not touch gcloud-sdk"]);
    check(&made_up(TESTS, &[("serde", normal)]), &["firebackup-tests may not touch serde"]);
    check(&made_up("firebackup-new", &[]), &["firebackup-new has no rule: say here what it may depend on"]);
}

#[test]
fn the_checker_finds_features_on_the_engines_object_store() {
    let mut engine = made_up("firebackup-engine", &[("object_store", DependencyKind::Normal)]);
    assert_none(declared_violations(&engine));
    engine.dependencies[0].features.push("aws".to_owned());
    assert_eq!(declared_violations(&engine).len(), 1);
}

#[test]
fn the_checker_finds_an_sdk_deep_in_a_tree() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_none(tree_violations("firebackup-engine", &names(&["firebackup-engine", "tokio", "firebackup-codec"])));
    assert_eq!(tree_violations("firebackup-engine", &names(&["firebackup-engine", "aws-sdk-s3", "tonic"])).len(), 2);
}

#[test]
fn the_checker_finds_a_version_outside_the_workspace() {
    let check = |manifest: &str, expect: usize| {
        assert_eq!(manifest_violations("made-up", manifest).len(), expect, "{manifest}");
    };
    let lints = "[lints]\nworkspace = true\n";
    check(&format!("{lints}[dependencies]\nbytes.workspace = true\n"), 0);
    check(&format!("{lints}[dev-dependencies]\ntokio = {{ workspace = true, features = [\"rt\"] }}\n"), 0);
    check(&format!("{lints}[dependencies]\nbytes = \"1\"\n"), 1);
    check(&format!("{lints}[target.'cfg(unix)'.dependencies]\nbytes = {{ version = \"1\" }}\n"), 1);
    check(&format!("{lints}[dependencies.bytes]\nworkspace = true\n"), 1);
    check("[package]\nversion.workspace = true\n", 1);
}
