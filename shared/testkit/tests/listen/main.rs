//! `Listen` as the proxy answers it in production's place, against what the emulator says is there. Without an emulator
//! these tests fail.

mod ears;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ears::{Ears, GROUPS, Heard, emulator_host, group_at};
use firebackup_model::{DatabaseName, Timestamp};
use firebackup_testkit::{ListenMode, Method, Proxy, ProxyOptions};
use gcloud_sdk::google::firestore::v1::target::ResumeType;
use gcloud_sdk::google::firestore::v1::{Target, WriteRequest};
use tonic::{Code, Request};
use writer::Writer;

/// Short, where a test waits for what nobody writes any more.
const HEARTBEAT: Duration = Duration::from_millis(50);

async fn proxy() -> Proxy {
    let options = ProxyOptions { listen: ListenMode::Production, ..ProxyOptions::default() };
    let proxy = Proxy::start(emulator_host().await, options).await.unwrap();
    proxy.control().set_coalescing(Duration::ZERO);
    proxy
}

/// A database of its own, three documents in each group, and somebody who has heard all of them.
async fn begun(project: &str) -> (Proxy, Writer, Ears) {
    let (proxy, database) = (proxy().await, DatabaseName::new(project, "(default)"));
    let mut writer = Writer::new(&proxy.host(), &database, 1);
    for group in GROUPS {
        for n in 0..3 {
            writer.put(&format!("{group}/{n}"), 0).await;
        }
    }
    let mut ears = Ears::new(&proxy.host(), &database);
    ears.listen().await;
    ears.hear_points(1).await;
    (proxy, writer, ears)
}

/// Compares what was heard by each point with what is there at its time.
async fn check_points(database: &DatabaseName, points: &[(Timestamp, BTreeMap<String, Bytes>)]) {
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "points only grow");
    for (at, heard) in points {
        let mut there = BTreeMap::new();
        for group in GROUPS {
            there.extend(group_at(emulator_host().await, database, group, *at).await);
        }
        let names = |documents: &BTreeMap<String, Bytes>| documents.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(heard), names(&there), "at {at}");
        assert_eq!(heard, &there, "at {at}");
    }
}

/// Listens while writers write, over cuts, and compares at every point.
async fn points_hold(project: &str, coalescing: Duration, writes: usize) {
    let (proxy, writer, mut ears) = begun(project).await;
    proxy.control().set_coalescing(coalescing);
    proxy.control().leave_out_what_came_and_went(!coalescing.is_zero());
    proxy.control().set_heartbeat(HEARTBEAT);
    let writers: Vec<_> = (0..3).map(|seed| tokio::spawn(writer.with_seed(seed).write_at_random(writes / 3))).collect();
    let mut cuts = 0;
    let cut_again = |cuts| proxy.control().cut_listens_after(20 + 17 * (cuts % 5), Code::Unavailable, 1);
    cut_again(cuts);
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        if let Heard::End(status) = ears.hear().await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            cuts += 1;
            cut_again(cuts);
            ears.listen().await;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    proxy.control().clear_faults();
    let end = ears.server_time().await;
    ears.listen().await;
    ears.hear_until(end).await;
    let counts = proxy.control().counts();
    assert!(cuts > 0 && counts.resumes >= 3 * cuts && counts.resets == 0, "{cuts} cuts, {counts:?}");
    assert!(ears.points.len() > 5, "{} points", ears.points.len());
    check_points(ears.database(), &ears.points).await;
}

#[tokio::test]
async fn at_every_point_everything_has_been_told() {
    points_hold("demo-listen-at-once", Duration::ZERO, 300).await;
}

#[tokio::test]
async fn at_every_point_everything_has_been_told_of_what_is_gathered() {
    points_hold("demo-listen-gathered", Duration::from_millis(20), 300).await;
    points_hold("demo-listen-slow", Duration::from_millis(200), 600).await;
}

#[tokio::test]
async fn writes_within_a_tick_are_told_as_one() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-coalesced").await;
    proxy.control().set_coalescing(Duration::from_millis(1500));
    for n in 1..=5 {
        writer.put("orders/0", n).await;
    }
    writer.delete("orders/1").await;
    writer.put("orders/new", 1).await;
    writer.delete("orders/new").await;
    let heard = ears.hear_points(1).await;
    let [mut told, mut gone] = [Vec::new(), Vec::new()];
    for heard in heard {
        match heard {
            Heard::Put(name) => told.push(name),
            Heard::Gone(name, at) => {
                assert_eq!(at, ears.point());
                gone.push(name);
            }
            Heard::Point => {}
            other => panic!("{other:?}"),
        }
    }
    gone.sort();
    let name = |path: &str| ears.database().document_name(path);
    assert_eq!((told, gone), (vec![name("orders/0")], vec![name("orders/1"), name("orders/new")]));
    check_points(ears.database(), &ears.points).await;
}

#[tokio::test]
async fn a_target_goes_on_from_a_token_or_a_read_time_and_hears_what_has_changed() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-resume").await;
    let since = ears.point();
    ears.cut(proxy.control(), Code::Aborted).await;
    writer.put("orders/0", 7).await;
    writer.delete("items/1").await;
    let expected = |heard: &[Heard]| {
        let puts = heard.iter().filter(|heard| matches!(heard, Heard::Put(name) if name.ends_with("/orders/0")));
        let gone = heard.iter().filter(|heard| matches!(heard, Heard::Gone(name, _) if name.ends_with("/items/1")));
        let all = heard.iter().filter(|heard| matches!(heard, Heard::Put(..) | Heard::Gone(..) | Heard::Reset));
        assert_eq!((puts.count(), gone.count(), all.count()), (1, 1, 2), "{heard:?}");
    };
    let known = ears.clone_knowledge();
    ears.listen().await;
    expected(&ears.hear_points(1).await);
    check_points(ears.database(), &ears.points).await;

    let mut ears = known;
    ears.listen_from(|_| Some(ResumeType::ReadTime(ears::proto(since)))).await;
    expected(&ears.hear_points(1).await);
    check_points(ears.database(), &ears.points).await;
    assert_eq!((proxy.control().counts().resumes, proxy.control().counts().resets), (6, 0));
}

#[tokio::test]
async fn what_cannot_be_gone_on_from_is_reset() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-reset").await;
    let heard_again = |heard: &[Heard]| {
        let resets = heard.iter().filter(|heard| matches!(heard, Heard::Reset)).count();
        let puts = heard.iter().filter(|heard| matches!(heard, Heard::Put(..))).count();
        let currents = heard.iter().filter(|heard| matches!(heard, Heard::Current)).count();
        assert_eq!((resets, puts, currents), (3, 9, 3), "{heard:?}");
    };
    proxy.control().reset_listens();
    heard_again(&ears.hear_points(1).await);

    proxy.control().forget_tokens();
    ears.listen().await;
    heard_again(&ears.hear_points(1).await);
    // the token that came with that is good
    writer.put("orders/0", 1).await;
    ears.listen().await;
    let heard = ears.hear_points(1).await;
    assert!(!heard.iter().any(|heard| matches!(heard, Heard::Reset)), "{heard:?}");

    ears.listen_from(|_| Some(ResumeType::ResumeToken(b"rubbish".to_vec()))).await;
    heard_again(&ears.hear_points(1).await);
    ears.listen_from(|_| Some(ResumeType::ReadTime(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }))).await;
    heard_again(&ears.hear_points(1).await);
    assert_eq!(proxy.control().counts().resets, 12);
    check_points(ears.database(), &ears.points).await;

    // another proxy knows no token of this one, and nothing from before itself
    let other = self::proxy().await;
    let mut ears = ears.at(&other.host());
    ears.listen().await;
    heard_again(&ears.hear_points(1).await);
    let future = ears.point().plus_seconds(3600);
    ears.listen_from(|_| Some(ResumeType::ReadTime(ears::proto(future)))).await;
    assert_eq!(ears.hear_end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn filters_count_what_is_there_and_swallowed_deletions_are_only_counted() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-filters").await;
    let counts = |heard: &[Heard]| -> Vec<(i32, i32)> {
        heard
            .iter()
            .filter_map(|heard| if let Heard::Filter(target, count) = heard { Some((*target, *count)) } else { None })
            .collect()
    };
    proxy.control().filters(true);
    writer.delete("orders/0").await;
    assert_eq!(counts(&ears.hear_points(1).await), [(1, 2), (2, 3), (3, 3)]);
    proxy.control().filters(false);

    proxy.control().swallow_deletes_on_resume(true);
    ears.cut(proxy.control(), Code::Unavailable).await;
    writer.delete("orders/1").await;
    writer.put("orders/2", 5).await;
    ears.listen().await;
    let heard = ears.hear_points(1).await;
    assert_eq!(counts(&heard), [(1, 1), (2, 3), (3, 3)]);
    assert!(!heard.iter().any(|heard| matches!(heard, Heard::Gone(..))), "{heard:?}");
    assert!(ears.knows("orders/1") && ears.knows("orders/2"));
    // who listens hears of deletions as ever
    writer.delete("orders/2").await;
    ears.hear_points(1).await;
    assert!(ears.knows("orders/1") && !ears.knows("orders/2"));
}

#[tokio::test]
async fn what_came_and_went_since_the_last_point_can_be_left_out() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-passing").await;
    proxy.control().leave_out_what_came_and_went(true);
    let gone = |heard: &[Heard]| heard.iter().filter(|heard| matches!(heard, Heard::Gone(..))).count();
    proxy.control().set_coalescing(Duration::from_millis(300));
    writer.put("orders/passing", 1).await;
    writer.delete("orders/passing").await;
    writer.delete("orders/0").await;
    assert_eq!(gone(&ears.hear_points(1).await), 1);
    ears.cut(proxy.control(), Code::Unavailable).await;
    writer.put("items/passing", 1).await;
    writer.delete("items/passing").await;
    writer.delete("items/0").await;
    ears.listen().await;
    assert_eq!(gone(&ears.hear_points(1).await), 1);
    assert!(!ears.knows("orders/0") && !ears.knows("items/0"));
}

#[tokio::test]
async fn a_hidden_group_is_held_back_until_it_is_shown() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-hidden").await;
    let absent = ears.clone_knowledge();
    proxy.control().set_heartbeat(HEARTBEAT);
    proxy.control().hide_group("orders");
    writer.put("orders/new", 1).await;
    writer.delete("orders/0").await;
    writer.put("items/0", 1).await;
    let written = ears.server_time().await;
    ears.hear_until(written).await;
    assert!(ears.knows("orders/0") && !ears.knows("orders/new"), "points go on and say nothing of it");

    ears.listen().await;
    ears.hear_points(1).await;
    assert!(ears.knows("orders/0") && !ears.knows("orders/new"));

    proxy.control().show_group("orders");
    ears.hear_until_it_knows("orders/new").await;
    assert!(!ears.knows("orders/0"));
    check_points(ears.database(), &ears.points[ears.points.len() - 1..]).await;

    let mut late = absent;
    late.listen().await;
    late.hear_points(1).await;
    check_points(late.database(), &late.points).await;
}

#[tokio::test]
async fn what_was_held_back_is_told_to_who_comes_after_it_was_shown() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-shown").await;
    proxy.control().hide_group("orders");
    writer.put("orders/new", 1).await;
    ears.hear_points(1).await;
    ears.cut(proxy.control(), Code::Unavailable).await;
    // the point that was said is behind the write
    proxy.control().show_group("orders");
    ears.listen().await;
    ears.hear_points(1).await;
    assert!(ears.knows("orders/new"));
    check_points(ears.database(), &ears.points[ears.points.len() - 1..]).await;
}

#[tokio::test]
async fn silence_is_kept_and_what_was_to_be_said_comes_after_it() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-silence").await;
    proxy.control().set_heartbeat(HEARTBEAT);
    ears.hear_points(2).await;
    proxy.control().silence_listens(true);
    writer.put("orders/0", 3).await;
    let told = proxy.control().counts().messages_told;
    let silence = tokio::time::timeout(Duration::from_millis(300), async {
        loop {
            // one message may have been on its way
            ears.hear().await;
        }
    });
    assert!(silence.await.is_err());
    assert!(proxy.control().counts().messages_told <= told + 1);
    let written = ears.server_time().await;
    proxy.control().silence_listens(false);
    ears.hear_until(written).await;
    check_points(ears.database(), &ears.points).await;

    proxy.control().silence_listens(true);
    ears.cut(proxy.control(), Code::Internal).await;
}

#[tokio::test]
async fn a_stream_is_cut_between_a_change_and_its_point() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-cut").await;
    proxy.control().cut_listens_after(1, Code::Unavailable, 1);
    writer.put("orders/0", 4).await;
    assert!(matches!(ears.hear().await, Heard::Put(..)));
    assert!(matches!(ears.hear().await, Heard::End(status) if status.code() == Code::Unavailable));
    ears.listen().await;
    assert!(ears.hear_points(1).await.iter().any(|heard| matches!(heard, Heard::Put(..))));
    check_points(ears.database(), &ears.points).await;
    proxy.control().fail_next(Method::Listen, Code::ResourceExhausted, 1);
    assert_eq!(ears.try_listen().await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_told() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-given-up").await;
    proxy.control().set_heartbeat(HEARTBEAT);
    for n in 1..40_u32 {
        writer.put_and_give_up("orders/1", n.into(), Duration::from_micros(150) * n).await;
    }
    writer.put("items/last", 1).await;
    let written = ears.server_time().await;
    ears.hear_until(written).await;
    check_points(ears.database(), &ears.points).await;
}

#[tokio::test]
async fn what_is_refused_is_not_told_and_ends_no_stream() {
    let (_proxy, mut writer, mut ears) = begun("demo-listen-refused").await;
    for bad in ["orders/__bad__", "orders"] {
        assert_eq!(writer.try_put(bad, 1).await.unwrap_err().code(), Code::InvalidArgument);
    }
    writer.put("items/0", 1).await;
    let heard = ears.hear_points(1).await;
    assert!(matches!(&heard[..], [Heard::Put(name), Heard::Point] if name.ends_with("/items/0")), "{heard:?}");

    // the part with the bad name is refused, another is written
    let batch = ["orders/0", "orders/1", "orders/2", "orders/3", "orders/4", "orders/__bad__"];
    assert_eq!(writer.put_large(&batch).await.unwrap_err().code(), Code::InvalidArgument);
    let heard = ears.hear_points(1).await;
    let told = |path: &str| heard.iter().any(|heard| matches!(heard, Heard::Put(name) if name.ends_with(path)));
    assert!(told("orders/0") && told("orders/3"), "{heard:?}");
    check_points(ears.database(), &ears.points).await;
}

#[tokio::test]
async fn targets_come_and_go_and_others_are_refused() {
    let (proxy, mut writer, mut ears) = begun("demo-listen-targets").await;
    ears.remove(2);
    assert!(matches!(ears.hear().await, Heard::Removed(2)));
    writer.put("items/0", 1).await;
    writer.put("orders/0", 1).await;
    let heard = ears.hear_points(1).await;
    assert!(!heard.iter().any(|heard| matches!(heard, Heard::Put(name) if name.contains("/items/"))), "{heard:?}");
    ears.add(Target { target_id: 9, ..Target::default() });
    assert!(matches!(ears.hear().await, Heard::End(status) if status.code() == Code::Unimplemented));

    let mut client = ears::client(&proxy.host());
    let requests = Request::new(tokio_stream::iter([WriteRequest::default()]));
    assert_eq!(client.write(requests).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_is_complete() {
    let (proxy, _, mut ears) = begun("demo-listen-heartbeat").await;
    proxy.control().set_heartbeat(HEARTBEAT);
    let heard = ears.hear_points(3).await;
    assert!(heard.iter().all(|heard| matches!(heard, Heard::Point)), "{heard:?}");
    check_points(ears.database(), &ears.points).await;
}

#[tokio::test]
async fn a_proxy_that_is_dropped_ends_its_streams() {
    let (proxy, _, mut ears) = begun("demo-listen-dropped").await;
    drop(proxy);
    assert!(matches!(ears.hear().await, Heard::End(_)));
    assert!(ears.try_listen().await.is_err());
}
