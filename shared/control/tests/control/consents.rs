//! Projects that are let in by the consent of a Google account.

use firebackup_control::{
    BegunConsent, Caller, Code, ControlSettings, Credentials, NewApiKey, NewCredentials, NewProject, Origin, Page,
    Project, ProjectChange, ProjectFilter, ProjectStatus, Role,
};
use firebackup_model::port::Identity;
use firebackup_testkit::memory_issuer::{identity, refresh_token};

use crate::world::{World, code, new_project};

const PLANTED: &str = "planted-refresh-token";

fn ada() -> Identity {
    identity("ada", "ada@example.com")
}

fn bob() -> Identity {
    identity("bob", "bob@example.com")
}

impl World {
    /// Somebody consents at Google whose browser was sent there by the caller, and comes back: the grant.
    async fn grant(&self, caller: &Caller, who: Identity) -> String {
        let begun = self.control.begin_consent(caller).await.unwrap();
        self.come_back(&begun, who).await.unwrap()
    }

    async fn come_back(&self, begun: &BegunConsent, who: Identity) -> firebackup_control::Result<String> {
        let (state, code) = self.issuer.sign_in(&begun.url, who);
        let grant = self.control.finish_consent(&state, &code, Some(&begun.browser_secret)).await?;
        Ok(grant.to_string())
    }

    /// A project that is let in by somebody's consent.
    async fn consented(&self, who: Identity) -> Project {
        let owner = self.owner().await;
        let grant = self.grant(&owner, who).await;
        self.control.connect_project(&owner, by_grant(&grant)).await.unwrap()
    }
}

fn oauth(grant: &str) -> NewCredentials {
    NewCredentials::Oauth { grant: grant.to_owned().into() }
}

fn by_grant(grant: &str) -> NewProject {
    NewProject { credentials: oauth(grant), ..new_project("Shop") }
}

#[tokio::test]
async fn a_consent_connects_a_project_once() {
    let world = World::new().await;
    let owner = world.owner().await;
    let grant = world.grant(&owner, ada()).await;
    let project = world.control.connect_project(&owner, by_grant(&grant)).await.unwrap();
    assert_eq!((project.credentials_type.as_str(), project.account.as_deref()), ("oauth", Some("ada@example.com")));
    assert_eq!((project.status, project.service_account), (ProjectStatus::Connected, None));
    let again = world.control.connect_project(&owner, by_grant(&grant)).await.unwrap_err();
    assert_eq!((again.code, &again.details.unwrap()["field"]), (Code::ValidationFailed, &"credentials.grant".into()));
    let change = ProjectChange { credentials: Some(oauth(&grant)), ..ProjectChange::default() };
    assert_eq!(code(world.control.update_project(&owner, &project.id, change).await), Code::ValidationFailed);
    // it is opened from its record
    let change = ProjectChange { connected: Some(true), ..ProjectChange::default() };
    world.control.update_project(&owner, &project.id, change).await.unwrap();
    let shown = world.probes.shown_access.lock().unwrap().clone().unwrap();
    let Credentials::Oauth { refresh_token: shown } = shown.credentials else { panic!("{shown:?}") };
    assert_eq!(*shown, refresh_token(&ada()));
}

#[tokio::test]
async fn a_grant_outlives_a_failure_but_not_ten_minutes() {
    let world = World::new().await;
    let owner = world.owner().await;
    let grant = world.grant(&owner, ada()).await;
    *world.probes.fails.lock().unwrap() = true;
    assert_eq!(code(world.control.connect_project(&owner, by_grant(&grant)).await), Code::GoogleFailed);
    *world.probes.fails.lock().unwrap() = false;
    world.clock.advance(9 * 60);
    assert!(world.control.connect_project(&owner, by_grant(&grant)).await.is_ok(), "Google had failed, not the grant");
    let grant = world.grant(&owner, ada()).await;
    world.clock.advance(12 * 60);
    assert_eq!(code(world.control.connect_project(&owner, by_grant(&grant)).await), Code::ValidationFailed);
}

#[tokio::test]
async fn a_grant_is_for_whoever_asked_and_their_organization() {
    let world = World::new().await;
    let owner = world.owner().await;
    let grant = world.grant(&owner, ada()).await;
    let colleague = world.caller(Role::Owner).await;
    assert_eq!(colleague.organization(), owner.organization());
    assert_eq!(code(world.control.connect_project(&colleague, by_grant(&grant)).await), Code::ValidationFailed);
    let stranger = world.second_organization().await;
    assert_ne!(stranger.organization(), owner.organization());
    assert_eq!(code(world.control.connect_project(&stranger, by_grant(&grant)).await), Code::ValidationFailed);
    for bad in ["", "fbg_", "fbg_nonsense", &grant[1..], &format!("{grant}A")] {
        assert_eq!(code(world.control.connect_project(&owner, by_grant(bad)).await), Code::ValidationFailed, "{bad}");
    }
    assert!(world.control.connect_project(&owner, by_grant(&grant)).await.is_ok(), "it is good all the same");
}

#[tokio::test]
async fn only_the_browser_that_began_comes_back_and_once() {
    let world = World::new().await;
    let owner = world.owner().await;
    let begun = world.control.begin_consent(&owner).await.unwrap();
    let other = world.control.begin_consent(&owner).await.unwrap();
    let (state, given) = world.issuer.sign_in(&begun.url, ada());
    let finish =
        async |state: &str, secret: Option<&str>| code(world.control.finish_consent(state, &given, secret).await);
    let (organization, sealed) = begun.browser_secret.split_once('.').unwrap();
    let tokens = world.sign_in(bob()).await.unwrap();
    let foreign = world.control.authenticate(&tokens.access, None).await.unwrap().organization();
    assert_ne!(foreign.to_string(), organization);
    let before = world.items.all().len();
    assert_eq!(finish(&state, None).await, Code::ConsentFailed);
    for secret in [
        other.browser_secret.as_str(),
        "",
        ".",
        "nonsense",
        organization,
        &format!("{organization}."),
        &format!("{organization}.AAAA"),
        &format!("{organization}.{}", &sealed[..sealed.len() - 4]),
        &format!("{foreign}.{sealed}"),
        &format!("org_01ARZ3NDEKTSV4RRFFQ69G5FAV.{sealed}"),
    ] {
        assert_eq!(finish(&state, Some(secret)).await, Code::ConsentFailed, "{secret}");
    }
    assert_eq!(finish("another", Some(&begun.browser_secret)).await, Code::ConsentFailed);
    assert_eq!(world.items.all().len(), before, "nobody but who began has anything written");
    world.control.finish_consent(&state, &given, Some(&begun.browser_secret)).await.unwrap();
    assert_eq!(finish(&state, Some(&begun.browser_secret)).await, Code::ConsentFailed, "the same once more");
    // a sign-in's secret is none of a consent's, nor the other way round
    let sign_in = world.control.begin_sign_in().await.unwrap();
    let (state, given) = world.issuer.sign_in(&sign_in.url, ada());
    let crossed = world.control.finish_consent(&state, &given, Some(&sign_in.browser_secret)).await;
    assert_eq!(code(crossed), Code::ConsentFailed);
    let (state, given) = world.issuer.sign_in(&other.url, ada());
    let origin = Origin::default();
    let crossed = world.control.finish_sign_in(&state, &given, Some(&other.browser_secret), &origin).await;
    assert_eq!(code(crossed), Code::SignInFailed);
}

#[tokio::test]
async fn a_question_is_under_way_for_ten_minutes() {
    let world = World::new().await;
    let owner = world.owner().await;
    for (seconds, expect) in [(600, None), (601, Some(Code::ConsentFailed)), (-61, Some(Code::ConsentFailed))] {
        let begun = world.control.begin_consent(&owner).await.unwrap();
        world.clock.advance(seconds);
        let code = world.come_back(&begun, ada()).await.err().map(|error| error.code);
        assert_eq!(code, expect, "{seconds}");
    }
}

#[tokio::test]
async fn half_a_consent_and_a_silent_issuer_give_no_grant() {
    let world = World::new().await;
    let owner = world.owner().await;
    let begun = world.control.begin_consent(&owner).await.unwrap();
    world.issuer.set_half_hearted(true);
    let error = world.come_back(&begun, ada()).await.unwrap_err();
    assert!(error.code == Code::ConsentFailed && error.message.contains("every box"), "{error}");
    world.issuer.set_half_hearted(false);
    let begun = world.control.begin_consent(&owner).await.unwrap();
    world.issuer.set_down(true);
    assert_eq!(code(world.come_back(&begun, ada()).await), Code::IssuerFailed);
    assert_eq!(code(world.control.begin_consent(&owner).await), Code::IssuerFailed);
}

#[tokio::test]
async fn a_consent_is_given_back_with_the_last_project_of_its_account() {
    let world = World::new().await;
    let owner = world.owner().await;
    let (first, second, third) =
        (world.consented(ada()).await, world.consented(ada()).await, world.consented(bob()).await);
    world.control.remove_project(&owner, &first.id).await.unwrap();
    assert_eq!(world.issuer.given_back(), Vec::<String>::new(), "another project stands on it");
    let change = ProjectChange { credentials: Some(new_project("x").credentials), ..ProjectChange::default() };
    let changed = world.control.update_project(&owner, &second.id, change).await.unwrap();
    assert_eq!((changed.account, changed.credentials_type.as_str()), (None, "service_account"));
    assert_eq!(world.issuer.given_back(), [refresh_token(&ada())]);
    // the same account consents anew: what it has just given must not be ended
    let grant = world.grant(&owner, bob()).await;
    let change = ProjectChange { credentials: Some(oauth(&grant)), ..ProjectChange::default() };
    world.control.update_project(&owner, &third.id, change).await.unwrap();
    assert_eq!(world.issuer.given_back().len(), 1);
    world.issuer.set_down(true);
    world.control.remove_project(&owner, &third.id).await.unwrap();
    assert_eq!(code(world.control.project(&owner, &third.id).await), Code::NotFound, "whether it is given back or not");
    let key = format!("PROJECT#{}", third.id);
    assert!(!world.items.all().iter().any(|item| item.key.sort == key), "its token is gone with it");
}

#[tokio::test]
async fn a_consent_that_is_gone_is_told_once_and_mended_by_another() {
    let world = World::new().await;
    let project = world.consented(ada()).await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let control = &world.control;
    world.clock.advance(1);
    control.consent_is_gone(&worker, &project.id, project.updated_at).await.unwrap();
    let gone = control.project(&owner, &project.id).await.unwrap();
    assert_eq!(gone.status, ProjectStatus::Error);
    assert!(gone.missing[0].remedy.contains("/projects/oauth"), "{:?}", gone.missing);
    let events = world.events_of("project.disconnected");
    assert_eq!((events.len(), &events[0].data["id"]), (1, &project.id.to_string().into()));
    // every job that meets it says it again
    for seen in [project.updated_at, gone.updated_at] {
        control.consent_is_gone(&worker, &project.id, seen).await.unwrap();
    }
    assert_eq!(world.events_of("project.disconnected").len(), 1);

    let grant = world.grant(&owner, ada()).await;
    let change = ProjectChange { credentials: Some(oauth(&grant)), ..ProjectChange::default() };
    let mended = control.update_project(&owner, &project.id, change).await.unwrap();
    assert_eq!((mended.status, mended.missing.len()), (ProjectStatus::Connected, 0));
    control.consent_is_gone(&worker, &project.id, project.updated_at).await.unwrap();
    let still = control.project(&owner, &project.id).await.unwrap();
    assert_eq!(still.status, ProjectStatus::Connected, "a step that knew the old one says nothing of the new one");
    control.remove_project(&owner, &project.id).await.unwrap();
    control.consent_is_gone(&worker, &project.id, still.updated_at).await.unwrap();
}

#[tokio::test]
async fn whoever_disconnects_a_project_is_told_of_once() {
    let world = World::new().await;
    let project = world.consented(ada()).await;
    let owner = world.owner().await;
    for _ in 0..2 {
        let change = ProjectChange { connected: Some(false), ..ProjectChange::default() };
        world.control.update_project(&owner, &project.id, change).await.unwrap();
    }
    assert_eq!(world.events_of("project.disconnected").len(), 1);
    let seen = world.control.project(&owner, &project.id).await.unwrap().updated_at;
    world.control.consent_is_gone(&world.worker().await, &project.id, seen).await.unwrap();
    let project = world.control.project(&owner, &project.id).await.unwrap();
    assert_eq!(project.status, ProjectStatus::Disconnected, "who disconnected it need not be told");
}

#[tokio::test]
async fn without_a_client_of_googles_it_is_said_what_to_set() {
    let world = World::without_consents(ControlSettings::default());
    let first = world.control.first_owner("Acme").await.unwrap().unwrap();
    let owner = world.control.authenticate(&first.api_key, None).await.unwrap();
    let error = world.control.begin_consent(&owner).await.err().unwrap();
    assert!(error.code == Code::ConsentUnavailable && error.message.contains("--oidc-client-id"), "{error}");
    let error = world.control.connect_project(&owner, by_grant("fbg_x")).await.unwrap_err();
    assert_eq!(error.code, Code::ConsentUnavailable);
}

#[tokio::test]
async fn a_refresh_token_stands_nowhere_in_the_clear() {
    let world = World::new().await;
    let owner = world.owner().await;
    let begun = world.control.begin_consent(&owner).await.unwrap();
    let grant = world.come_back(&begun, ada()).await.unwrap();
    let waiting = format!("{:?}", world.items.all());
    let project = world.control.connect_project(&owner, by_grant(&grant)).await.unwrap();
    world.destination().await;
    let backup = world.completed(&project).await;
    let work = world.control.work_to_end(&world.worker().await, &backup.job.id).await.unwrap();
    world.control.remove_project(&owner, &project.id).await.unwrap();
    let audit = world.control.audit(&owner, &Default::default(), &Page::default()).await.unwrap();
    let listed = world.control.projects(&owner, &ProjectFilter::default(), &Page::default()).await.unwrap();
    let shown = format!(
        "{waiting} {:?} {:?} {work:?} {:?} {audit:?} {listed:?} {} {:?}",
        world.items.all(),
        world.events.published(),
        by_grant(&grant),
        begun.browser_secret.as_str(),
        world.probes.shown_access.lock().unwrap(),
    );
    assert!(shown.contains("project.deleted") && shown.contains("Oauth"), "something was looked at");
    for secret in [PLANTED, &grant] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(world.issuer.given_back()[0].starts_with(PLANTED), "this is what was looked for");
}

/// Of two that take one grant at one time, one has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_grant_that_is_taken_twice_at_once_is_taken_once() {
    for round in 0..50 {
        let world = World::new().await;
        world.items.vary(round * 1000);
        let owner = world.owner().await;
        let grant = world.grant(&owner, ada()).await;
        let takers = (0..4).map(|_| {
            let (control, owner, new) = (world.control.clone(), owner.clone(), by_grant(&grant));
            tokio::spawn(async move { control.connect_project(&owner, new).await.is_ok() })
        });
        let taken = futures::future::join_all(takers).await;
        assert_eq!(taken.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1, "round {round}");
    }
}

/// An API key that was revoked between asking and taking takes nothing.
#[tokio::test]
async fn whoever_was_let_out_meanwhile_takes_nothing() {
    let world = World::new().await;
    let new = NewApiKey { name: "gone".to_owned(), role: Role::Admin, expires_at: None };
    let (key, secret) = world.control.create_api_key(&world.owner().await, new).await.unwrap();
    let admin = world.control.authenticate(&secret, None).await.unwrap();
    let grant = world.grant(&admin, ada()).await;
    world.control.revoke_api_key(&world.owner().await, &key.id).await.unwrap();
    assert!(world.control.authenticate(&secret, None).await.is_err());
    let owner = world.owner().await;
    assert_eq!(code(world.control.connect_project(&owner, by_grant(&grant)).await), Code::ValidationFailed);
}
