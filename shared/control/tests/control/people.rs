//! Signing in, and what follows from it.

use firebackup_control::{ACCESS_SECONDS, Actor, Code, ControlSettings, Kind, Origin, SIGN_IN_SECONDS, SignUp};
use firebackup_testkit::memory_issuer::identity;

use crate::world::{World, code};

fn here() -> Origin {
    Origin::default()
}

#[tokio::test]
async fn whoever_signs_in_first_gets_an_organization_and_owns_it() {
    let world = World::new().await;
    let tokens = world.sign_in(identity("Ada", "Ada@Example.com")).await.unwrap();
    let caller = world.control.authenticate(&tokens.access, None).await.unwrap();
    assert_eq!(caller.role(), firebackup_control::Role::Owner);
    assert_eq!(world.control.organization(&caller).await.unwrap().name, "Ada's organization");
    let again = world.sign_in(identity("Ada", "ada@new.example")).await.unwrap();
    let same = world.control.authenticate(&again.access, None).await.unwrap();
    assert_eq!((same.actor(), same.organization()), (caller.actor(), caller.organization()));
    let other = world.sign_in(identity("Bob", "ada@example.com")).await.unwrap();
    let other = world.control.authenticate(&other.access, None).await.unwrap();
    assert_ne!(other.actor(), caller.actor(), "an address proves nothing about the subject");
    assert!(matches!(caller.actor(), Actor::User(_)));
}

#[tokio::test]
async fn a_sign_in_belongs_to_one_browser_comes_once_and_not_too_late() {
    let world = World::new().await;
    let begin = async || world.control.begin_sign_in().await.unwrap();
    let finish = async |state: &str, issued: &str, secret: Option<&str>| {
        world.control.finish_sign_in(state, issued, secret, &here()).await
    };
    let (mine, theirs) = (begin().await, begin().await);
    let (state, issued) = world.issuer.sign_in(&mine.url, identity("Ada", "ada@example.com"));
    assert_eq!(code(finish(&state, &issued, None).await), Code::SignInFailed, "no cookie");
    assert_eq!(code(finish(&state, &issued, Some("x")).await), Code::SignInFailed);
    let stolen = finish(&state, &issued, Some(&theirs.browser_secret)).await;
    assert_eq!(code(stolen), Code::SignInFailed, "the state of another browser");
    let (their_state, _) = world.issuer.sign_in(&theirs.url, identity("Eve", "eve@example.com"));
    let mixed = finish(&their_state, &issued, Some(&theirs.browser_secret)).await;
    assert_eq!(
        code(mixed),
        Code::SignInFailed,
        "a code that was issued for another browser: nonce and verifier differ"
    );
    // the issuer's code was spent by that: begin again
    let mine = begin().await;
    let (state, issued) = world.issuer.sign_in(&mine.url, identity("Ada", "ada@example.com"));
    assert!(finish(&state, &issued, Some(&mine.browser_secret)).await.is_ok());
    assert_eq!(code(finish(&state, &issued, Some(&mine.browser_secret)).await), Code::SignInFailed, "twice");
    let late = begin().await;
    let (state, issued) = world.issuer.sign_in(&late.url, identity("Ada", "ada@example.com"));
    world.clock.advance(SIGN_IN_SECONDS + 1);
    assert_eq!(code(finish(&state, &issued, Some(&late.browser_secret)).await), Code::SignInFailed, "too late");
}

#[tokio::test]
async fn the_code_at_the_end_is_good_once_and_shortly() {
    let world = World::new().await;
    let finish = async || {
        let begun = world.control.begin_sign_in().await.unwrap();
        let (state, issued) = world.issuer.sign_in(&begun.url, identity("Ada", "ada@example.com"));
        world.control.finish_sign_in(&state, &issued, Some(&begun.browser_secret), &here()).await.unwrap()
    };
    let one = finish().await;
    assert!(world.control.begin_session(&one, &here()).await.is_ok());
    assert_eq!(code(world.control.begin_session(&one, &here()).await), Code::InvalidToken);
    assert_eq!(code(world.control.begin_session("fbc_nonsense", &here()).await), Code::InvalidToken);
    let late = finish().await;
    world.clock.advance(121);
    assert_eq!(code(world.control.begin_session(&late, &here()).await), Code::InvalidToken);
    let (raced, origin) = (finish().await, here());
    let (a, b) =
        tokio::join!(world.control.begin_session(&raced, &origin), world.control.begin_session(&raced, &origin),);
    assert!(a.is_ok() != b.is_ok(), "of two that come with one code, one begins");
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_the_whole_family() {
    let world = World::new().await;
    let first = world.sign_in(identity("Ada", "ada@example.com")).await.unwrap();
    let second = world.control.refresh_session(&first.refresh, &here()).await.unwrap();
    assert!(world.control.authenticate(&first.access, None).await.is_ok(), "requests that are under way go on");
    let third = world.control.refresh_session(&second.refresh, &here()).await.unwrap();
    assert_eq!(code(world.control.authenticate(&first.access, None).await), Code::InvalidToken, "two at a time");
    assert!(world.control.authenticate(&third.access, None).await.is_ok());
    assert_eq!(code(world.control.refresh_session(&first.refresh, &here()).await), Code::InvalidRefreshToken);
    for token in [&second.access, &third.access] {
        assert_eq!(code(world.control.authenticate(token, None).await), Code::InvalidToken);
    }
    assert_eq!(code(world.control.refresh_session(&third.refresh, &here()).await), Code::InvalidRefreshToken);
    assert!(world.sign_in(identity("Ada", "ada@example.com")).await.is_ok(), "she signs in again");
}

#[tokio::test]
async fn tokens_end_with_their_time_and_with_the_session() {
    let world = World::new().await;
    let tokens = world.sign_in(identity("Ada", "ada@example.com")).await.unwrap();
    world.clock.advance(ACCESS_SECONDS);
    let error = world.control.authenticate(&tokens.access, None).await.unwrap_err();
    assert_eq!((error.code, error.kind), (Code::TokenExpired, Kind::Unauthorized));
    assert!(error.details.unwrap()["expiredAt"].is_string());
    let wrong = format!("{}A", &tokens.access[..tokens.access.len() - 1]);
    assert_eq!(code(world.control.authenticate(&wrong, None).await), Code::InvalidToken, "only its holder is told");
    let next = world.control.refresh_session(&tokens.refresh, &here()).await.unwrap();
    let person = world.control.signed_in(&next.access, here()).await.unwrap();
    world.control.sign_out(&person).await.unwrap();
    world.control.sign_out(&person).await.unwrap();
    assert_eq!(code(world.control.authenticate(&next.access, None).await), Code::InvalidToken);
    assert_eq!(code(world.control.refresh_session(&next.refresh, &here()).await), Code::InvalidRefreshToken);
    let tokens = world.sign_in(identity("Ada", "ada@example.com")).await.unwrap();
    world.clock.advance(30 * 86_400 + 1);
    assert_eq!(code(world.control.refresh_session(&tokens.refresh, &here()).await), Code::InvalidRefreshToken);
}

#[tokio::test]
async fn a_session_ends_however_often_it_is_refreshed() {
    let world = World::new().await;
    let mut tokens = world.sign_in(identity("Ada", "ada@example.com")).await.unwrap();
    let mut days = 0;
    let ended = loop {
        world.clock.advance(20 * 86_400);
        days += 20;
        match world.control.refresh_session(&tokens.refresh, &here()).await {
            Ok(next) => tokens = next,
            Err(error) => break error.code,
        }
    };
    assert_eq!((ended, days), (Code::InvalidRefreshToken, 100));
}

#[tokio::test]
async fn nobody_signs_up_who_may_not() {
    let world = World::with(ControlSettings { sign_up: SignUp::read("@example.com"), ..ControlSettings::default() });
    world.control.first_owner("Acme").await.unwrap();
    assert!(world.sign_in(identity("Ada", "ada@example.com")).await.is_ok());
    assert_eq!(code(world.sign_in(identity("Eve", "eve@evil.example")).await), Code::SignUpClosed);
    let mut unproven = identity("Eve", "eve@example.com");
    unproven.email_verified = false;
    assert_eq!(code(world.sign_in(unproven).await), Code::SignUpClosed);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_said_so() {
    let world = World::new().await;
    world.issuer.set_down(true);
    let error = world.control.begin_sign_in().await.err().unwrap();
    assert_eq!((error.code, error.kind), (Code::IssuerFailed, Kind::Upstream));
}

#[tokio::test]
async fn whoever_runs_the_installation_signs_in_with_a_code_until_the_others_take_them_out() {
    let world = World::new().await;
    let code_text = world.control.owner_code().await.unwrap().unwrap();
    let tokens = world.control.begin_session(&code_text, &here()).await.unwrap();
    let caller = world.control.authenticate(&tokens.access, None).await.unwrap();
    assert_eq!(caller.organization(), world.owner().await.organization());
    assert_eq!(caller.role(), firebackup_control::Role::Owner);
    assert!(world.control.owner_code().await.unwrap().is_some(), "at each start there is another one");
    let me = caller.user().unwrap();
    assert_eq!(code(world.control.remove_member(&caller, &me).await), Code::LastOwner);
    let (_, token) = crate::teams::invited(&world, "ada@example.com", firebackup_control::Role::Owner).await;
    world.control.accept_invite(&world.person(identity("Ada", "ada@example.com")).await, &token).await.unwrap();
    world.control.remove_member(&caller, &me).await.unwrap();
    assert_eq!(world.control.owner_code().await.unwrap(), None);
    let nobody = World::empty();
    assert_eq!(nobody.control.owner_code().await.unwrap(), None);
}

#[tokio::test]
async fn nothing_that_is_stored_opens_anything() {
    let world = World::new().await;
    let begun = world.control.begin_sign_in().await.unwrap();
    let (state, issued) = world.issuer.sign_in(&begun.url, identity("Ada", "ada@example.com"));
    let stored = |world: &World| format!("{:?}", world.items.all());
    assert!(!stored(&world).contains(&state) && !stored(&world).contains(begun.browser_secret.as_str()));
    let one = world.control.finish_sign_in(&state, &issued, Some(&begun.browser_secret), &here()).await.unwrap();
    assert!(!stored(&world).contains(&one[4..]));
    let tokens = world.control.begin_session(&one, &here()).await.unwrap();
    let (_, invite) = crate::teams::invited(&world, "bob@example.com", firebackup_control::Role::Member).await;
    let secrets = [&tokens.access, &tokens.refresh, &invite].map(|token| token[token.len() - 43..].to_owned());
    for secret in &secrets {
        assert!(!stored(&world).contains(secret));
    }
    assert_eq!(format!("{tokens:?}"), "Tokens(..)");
}
