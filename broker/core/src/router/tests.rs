use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;
use signet_wire::Text;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session(Arc<u64>);

impl Subscriber for Session {
    fn id(&self) -> u64 {
        *self.0
    }
}

fn session(id: u64) -> Session {
    Session(Arc::new(id))
}

fn filter(text: &str) -> SubscriptionFilter {
    SubscriptionFilter::parse(Text::try_from(text).unwrap()).unwrap()
}

fn topic(text: &str) -> TopicName {
    TopicName::try_from(text).unwrap()
}

const QOS0: SubOptions =
    SubOptions { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, subscription_id: None };

fn qos(qos: QoS) -> SubOptions {
    SubOptions { qos, ..QOS0 }
}

/// Nobody: no session has this id.
const NOBODY: u64 = u64::MAX;

fn who(index: &Index<Session>, name: &str) -> Vec<u64> {
    let mut out = Matches::new();
    index.matches(&topic(name), NOBODY, &mut out);
    let mut ids: Vec<u64> = out.plain().iter().map(|hit| hit.subscriber.id()).collect();
    ids.sort_unstable();
    ids
}

fn subscribed(filters: &[&str]) -> Index<Session> {
    let index = Index::new();
    for (id, text) in (0..).zip(filters) {
        assert!(index.subscribe(session(id), &filter(text), QOS0), "{text}");
    }
    index
}

#[test]
fn wildcards_on_the_first_level_do_not_match_reserved_topics() {
    let index = subscribed(&["#", "+/uptime", "$SYS/#", "$SYS/+", "$SYS/uptime", "+/#"]);
    assert_eq!(who(&index, "$SYS/uptime"), [2, 3, 4]);
    assert_eq!(who(&index, "$SYS"), [2]);
    assert_eq!(who(&index, "x/uptime"), [0, 1, 5]);
}

#[test]
fn a_multi_level_wildcard_matches_the_level_above_it() {
    let index = subscribed(&["sport/#", "sport/tennis/+/#", "sport/+"]);
    assert_eq!(who(&index, "sport"), [0]);
    assert_eq!(who(&index, "sport/"), [0, 2]);
    assert_eq!(who(&index, "sport/tennis/player1"), [0, 1]);
    assert_eq!(who(&index, "sports"), [] as [u64; 0]);
}

#[test]
fn empty_levels_are_levels() {
    let index = subscribed(&["+", "/+", "+/+", "a//+", "a/+/", "#"]);
    assert_eq!(who(&index, "/x"), [1, 2, 5]);
    assert_eq!(who(&index, "x"), [0, 5]);
    assert_eq!(who(&index, "a//"), [3, 4, 5]);
    assert_eq!(who(&index, "a/"), [2, 5]);
}

#[test]
fn a_run_of_levels_that_two_filters_share_is_cut_where_they_part() {
    let index = subscribed(&["a/b/c/d/#", "a/b/c/e/#", "a/b/#", "a/b/c/d/e/f/+", "a/b/cc/#", "a/#"]);
    assert_eq!(who(&index, "a/b/c/d/e"), [0, 2, 5]);
    assert_eq!(who(&index, "a/b/c/e"), [1, 2, 5]);
    assert_eq!(who(&index, "a/b/c"), [2, 5]);
    assert_eq!(who(&index, "a/b/c/d/e/f/g"), [0, 2, 3, 5]);
    assert_eq!(who(&index, "a/b/cc"), [2, 4, 5]);
    assert!(index.unsubscribe(2, &filter("a/b/#")));
    assert!(index.unsubscribe(1, &filter("a/b/c/e/#")));
    assert_eq!(who(&index, "a/b/c/d/e/f/g"), [0, 3, 5]);
    assert_eq!(who(&index, "a/b/c/e"), [5]);
}

#[test]
fn a_session_with_overlapping_subscriptions_is_hit_once_at_the_maximum_qos_with_all_identifiers() {
    let index = Index::new();
    let me = session(1);
    let with =
        |qos, id, retain_as_published| SubOptions { qos, subscription_id: id, retain_as_published, ..QOS0 };
    index.subscribe(me.clone(), &filter("a/b"), with(QoS::AtLeastOnce, Some(7), false));
    index.subscribe(me.clone(), &filter("a/+"), with(QoS::ExactlyOnce, None, true));
    index.subscribe(me.clone(), &filter("#"), with(QoS::AtMostOnce, Some(268_435_455), false));
    index.subscribe(session(2), &filter("#"), qos(QoS::AtMostOnce));

    let mut out = Matches::new();
    index.matches(&topic("a/b"), NOBODY, &mut out);

    assert_eq!(out.plain().len(), 2);
    let hit = out.plain().iter().find(|hit| hit.subscriber == me).unwrap();
    assert_eq!(hit.qos, QoS::ExactlyOnce);
    assert!(hit.retain_as_published);
    let ids: BTreeSet<u32> = hit.subscription_ids.iter().copied().collect();
    assert_eq!(ids, BTreeSet::from([7, 268_435_455]));
}

#[test]
fn sessions_met_in_several_large_sets_are_merged_too() {
    let index = Index::new();
    for id in 0..500 {
        index.subscribe(session(id), &filter("a/b"), qos(QoS::AtMostOnce));
        index.subscribe(session(id), &filter("a/+"), qos(QoS::AtLeastOnce));
        index.subscribe(session(id + 250), &filter("a/#"), qos(QoS::ExactlyOnce));
    }
    let mut out = Matches::new();
    for _ in 0..2 {
        index.matches(&topic("a/b"), NOBODY, &mut out);
        let hits: BTreeMap<u64, QoS> = out.plain().iter().map(|hit| (hit.subscriber.id(), hit.qos)).collect();
        assert_eq!(out.plain().len(), 750);
        assert_eq!(hits.len(), 750);
        for (id, qos) in hits {
            assert_eq!(qos, if id < 250 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }, "session {id}");
        }
    }
}

#[test]
fn a_repeated_subscription_replaces_the_options_and_is_not_new() {
    for text in ["a/b", "a/+", "$share/g/a/b", "$share/g/a/+"] {
        let index = Index::new();
        assert!(index.subscribe(session(1), &filter(text), qos(QoS::ExactlyOnce)), "{text}");
        assert!(!index.subscribe(session(1), &filter(text), qos(QoS::AtLeastOnce)), "{text}");
        let mut out = Matches::new();
        index.matches(&topic("a/b"), NOBODY, &mut out);
        let plain = out.plain().iter().map(|hit| hit.qos);
        let shared =
            out.shared().iter().filter_map(|group| group.pick(|_| true)).map(|(_, options)| options.qos);
        assert_eq!(plain.chain(shared).collect::<Vec<_>>(), [QoS::AtLeastOnce], "{text}");
        assert_eq!(index.subscriptions(), 1, "{text}");
    }
}

#[test]
fn unsubscribing_compares_characters_and_leaves_the_others() {
    let index = subscribed(&["a/+", "a/+", "a/#", "a/b", "a/b"]);
    assert!(!index.unsubscribe(0, &filter("a/#")));
    assert!(!index.unsubscribe(0, &filter("+/b")));
    assert!(!index.unsubscribe(0, &filter("a/b")));
    assert!(!index.unsubscribe(0, &filter("$share/g/a/+")));
    assert_eq!(who(&index, "a/b"), [0, 1, 2, 3, 4]);
    assert!(index.unsubscribe(0, &filter("a/+")));
    assert!(!index.unsubscribe(0, &filter("a/+")));
    assert!(index.unsubscribe(4, &filter("a/b")));
    assert_eq!(who(&index, "a/b"), [1, 2, 3]);
    assert_eq!(index.subscriptions(), 3);
}

#[test]
fn no_local_hides_the_publisher_from_that_subscription_only() {
    let index = Index::new();
    let no_local = SubOptions { no_local: true, qos: QoS::ExactlyOnce, ..QOS0 };
    index.subscribe(session(1), &filter("a/+"), no_local);
    index.subscribe(session(2), &filter("a/+"), no_local);
    let mut out = Matches::new();
    index.matches(&topic("a/b"), 1, &mut out);
    assert_eq!(out.plain().iter().map(|hit| hit.subscriber.id()).collect::<Vec<_>>(), [2]);
    index.subscribe(session(1), &filter("a/b"), QOS0);
    index.matches(&topic("a/b"), 1, &mut out);
    let own = out.plain().iter().find(|hit| hit.subscriber.id() == 1).unwrap();
    assert_eq!(own.qos, QoS::AtMostOnce);
}

#[test]
fn a_plain_and_a_shared_subscription_of_one_session_are_two_copies() {
    let index = Index::new();
    index.subscribe(session(1), &filter("a/b"), QOS0);
    index.subscribe(session(1), &filter("$share/g/a/b"), QOS0);
    index.subscribe(session(1), &filter("$share/g/a/+"), QOS0);
    index.subscribe(session(1), &filter("$share/h/a/+"), QOS0);
    let mut out = Matches::new();
    index.matches(&topic("a/b"), NOBODY, &mut out);
    assert_eq!(out.plain().len(), 1);
    let mut groups: Vec<&str> = out.shared().iter().map(|group| group.name()).collect();
    groups.sort_unstable();
    assert_eq!(groups, ["g", "g", "h"]);
    assert_eq!(index.shared_subscriptions(), 3);
    assert_eq!(index.subscriptions(), 4);
}

fn group_of(members: u64) -> (Index<Session>, Arc<SharedGroup<Session>>) {
    let index = Index::new();
    let shared = filter("$share/workers/jobs/+");
    for id in 0..members {
        index.subscribe(session(id), &shared, QOS0);
    }
    let group = index.shared_group("workers", shared.filter()).unwrap();
    (index, group)
}

#[test]
fn members_of_a_group_take_turns() {
    let (_index, group) = group_of(3);
    let turns: Vec<u64> = (0..9).map(|_| group.pick(|_| true).unwrap().0.id()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn the_share_of_an_unusable_member_is_spread_over_all_others() {
    let (_index, group) = group_of(4);
    let mut turns = BTreeMap::<u64, usize>::new();
    for _ in 0..300 {
        let (member, _) = group.pick(|member| member.id() != 1).unwrap();
        *turns.entry(member.id()).or_default() += 1;
    }
    assert_eq!(turns, BTreeMap::from([(0, 100), (2, 100), (3, 100)]));
}

#[test]
fn a_group_without_a_usable_member_picks_nobody_and_asks_each_once() {
    let (_index, group) = group_of(4);
    let asked = std::cell::RefCell::new(Vec::new());
    let nobody = group.pick(|member| {
        asked.borrow_mut().push(member.id());
        false
    });
    assert!(nobody.is_none());
    let mut asked = asked.into_inner();
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2, 3]);
}

#[test]
fn a_member_that_leaves_gets_nothing_more_and_the_last_one_takes_the_group_along() {
    let (index, group) = group_of(3);
    let shared = filter("$share/workers/jobs/+");
    assert!(index.unsubscribe(0, &shared));
    assert!(!index.unsubscribe(0, &shared));
    let turns: BTreeSet<u64> = (0..6).map(|_| group.pick(|_| true).unwrap().0.id()).collect();
    assert_eq!(turns, BTreeSet::from([1, 2]));
    assert!(index.unsubscribe(1, &shared));
    assert!(index.unsubscribe(2, &shared));
    assert!(group.pick(|_| true).is_none());
    assert!(index.shared_group("workers", shared.filter()).is_none());
    let mut out = Matches::new();
    index.matches(&topic("jobs/1"), NOBODY, &mut out);
    assert!(out.is_empty());
    assert_eq!(index.subscriptions(), 0);
}

#[test]
fn a_node_that_grows_wide_and_shrinks_again_keeps_its_children() {
    const DEVICES: u64 = 40_000;
    let index = Index::new();
    let commands = |id: u64| filter(&format!("devices/d{id}/commands/#"));
    for id in 0..DEVICES {
        assert!(index.subscribe(session(id), &commands(id), QOS0));
    }
    index.subscribe(session(DEVICES), &filter("devices/+/commands/reboot"), QOS0);
    for id in (0..DEVICES).step_by(997) {
        assert_eq!(who(&index, &format!("devices/d{id}/commands/reboot")), [id, DEVICES]);
        assert_eq!(who(&index, &format!("devices/d{id}/commands")), [id]);
    }
    for id in 3..DEVICES {
        assert!(index.unsubscribe(id, &commands(id)));
        assert!(!index.unsubscribe(id, &commands(id)));
    }
    assert_eq!(who(&index, "devices/d2/commands/reboot"), [2, DEVICES]);
    assert_eq!(who(&index, "devices/d3/commands/reboot"), [DEVICES]);
    for id in 0..3 {
        assert!(index.unsubscribe(id, &commands(id)));
    }
    assert!(index.unsubscribe(DEVICES, &filter("devices/+/commands/reboot")));
    assert_eq!(index.subscriptions(), 0);
}

#[test]
fn a_topic_with_many_subscribers_loses_none_when_one_leaves() {
    for text in ["news/world", "news/#"] {
        let index = Index::new();
        for id in 0..2_000 {
            index.subscribe(session(id), &filter(text), QOS0);
        }
        assert!(index.unsubscribe(1_000, &filter(text)));
        assert_eq!(who(&index, "news/world"), (0..2_000).filter(|id| *id != 1_000).collect::<Vec<_>>());
        for id in (5..2_000).filter(|id| *id != 1_000) {
            assert!(index.unsubscribe(id, &filter(text)));
        }
        assert_eq!(who(&index, "news/world"), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn the_deepest_filter_there_can_be_is_matched_and_dropped_without_recursion() {
    let deep = vec!["+"; 32_768].join("/");
    let name = "/".repeat(32_767);
    let run = format!("{}/#", "x/".repeat(32_760).trim_end_matches('/'));
    let index = Index::new();
    index.subscribe(session(1), &filter(&deep), QOS0);
    index.subscribe(session(2), &filter(&run), QOS0);
    let index = thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(move || {
            assert_eq!(who(&index, &name), [1]);
            index
        })
        .unwrap()
        .join()
        .unwrap();
    let dropping = thread::Builder::new().stack_size(128 * 1024).spawn(move || drop(index)).unwrap();
    assert!(dropping.join().is_ok());
}

#[test]
fn filters_that_share_their_wildcards_share_the_work() {
    // 2^10 filters of ten levels, each level the literal or '+', all match this topic: the worst case of that depth.
    let index = Index::new();
    for mask in 0..1024_u64 {
        let levels: Vec<&str> = (0..10).map(|bit| if mask >> bit & 1 == 1 { "+" } else { "a" }).collect();
        index.subscribe(session(mask), &filter(&levels.join("/")), QOS0);
    }
    assert_eq!(who(&index, &["a"; 10].join("/")), (0..1024).collect::<Vec<_>>());
    assert_eq!(who(&index, &["b"; 10].join("/")), [1023]);
}

#[test]
fn a_stable_subscription_is_never_missed_while_others_come_and_go() {
    let index = Index::new();
    let stable =
        ["devices/d1/commands/reboot", "devices/+/commands/#", "devices/d1/#", "devices/d1/commands/+", "#"];
    for (id, text) in (0..).zip(stable) {
        index.subscribe(session(id), &filter(text), QOS0);
    }
    index.subscribe(session(99), &filter("$share/g/devices/d1/commands/+"), QOS0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (index, done) = (&index, &done);
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                scope.spawn(move || {
                    // Through every representation: few and many children, cut runs, one and many subscribers.
                    for round in 0..30 {
                        let id = |n: u64| 1_000 + writer * 100_000 + n;
                        let filters = |n: u64| match n % 4 {
                            0 => format!("devices/w{writer}-{n}/commands/#"),
                            1 => "devices/d1/commands/+".to_owned(),
                            2 => format!("devices/d1/commands/w{writer}-{n}/+"),
                            _ => "devices/d1/commands/reboot".to_owned(),
                        };
                        let count = 40 + round;
                        for n in 0..count {
                            assert!(index.subscribe(session(id(n)), &filter(&filters(n)), QOS0));
                        }
                        for n in 0..count {
                            assert!(index.unsubscribe(id(n), &filter(&filters(n))));
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(move || {
            let mut out = Matches::new();
            let mut rounds = 0;
            let name = topic("devices/d1/commands/reboot");
            while rounds == 0 || !done.load(Ordering::Relaxed) {
                index.matches(&name, NOBODY, &mut out);
                let found: BTreeSet<u64> = out.plain().iter().map(|hit| hit.subscriber.id()).collect();
                assert_eq!(found.len(), out.plain().len(), "one copy per session");
                assert!((0..5).all(|id| found.contains(&id)), "a stable subscription is missing: {found:?}");
                assert_eq!(out.shared().len(), 1);
                rounds += 1;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(index.subscriptions(), 6);
}

#[derive(Clone, Debug)]
enum Op {
    Subscribe(u64, String, SubOptions),
    Unsubscribe(u64, String),
}

fn any_filter() -> impl Strategy<Value = String> {
    "([$]share/[gh]/)?([ab+$]|ab|)(/([ab+]|cc|)){0,4}(/#)?"
}

fn any_options() -> impl Strategy<Value = SubOptions> {
    (0..3_u8, any::<bool>(), any::<bool>(), prop::option::of(1..9_u32)).prop_map(
        |(qos, no_local, rap, id)| SubOptions {
            qos: QoS::try_from(qos).unwrap(),
            no_local,
            retain_as_published: rap,
            subscription_id: id,
        },
    )
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..6_u64, any_filter(), any_options()).prop_map(|(id, text, options)| Op::Subscribe(id, text, options)),
        1 => (0..6_u64, any_filter()).prop_map(|(id, text)| Op::Unsubscribe(id, text)),
    ]
}

/// Session, maximum QoS, retain as published, subscription identifiers.
type Expected = BTreeMap<u64, (QoS, bool, Vec<u32>)>;

/// All subscriptions in a list, each compared with the topic by itself.
#[derive(Default)]
struct Oracle(BTreeMap<(u64, SubscriptionFilter), SubOptions>);

impl Oracle {
    fn plain(&self, name: &TopicName, publisher: u64) -> Expected {
        let mut expected = Expected::new();
        for ((id, filter), options) in &self.0 {
            let hidden = options.no_local && *id == publisher;
            if filter.group().is_some() || hidden || !filter.filter().matches(name) {
                continue;
            }
            let (qos, rap, ids) = expected.entry(*id).or_insert((QoS::AtMostOnce, false, Vec::new()));
            *qos = (*qos).max(options.qos);
            *rap |= options.retain_as_published;
            ids.extend(options.subscription_id);
            ids.sort_unstable();
        }
        expected
    }

    fn shared(&self, name: &TopicName) -> Vec<(String, BTreeSet<u64>)> {
        let mut groups = BTreeMap::<(String, String), BTreeSet<u64>>::new();
        for (id, filter) in self.0.keys() {
            if let Some(group) = filter.group().filter(|_| filter.filter().matches(name)) {
                groups.entry((group.to_string(), filter.filter().to_string())).or_default().insert(*id);
            }
        }
        let mut groups: Vec<_> = groups.into_iter().map(|((group, _), members)| (group, members)).collect();
        groups.sort();
        groups
    }
}

fn members(group: &SharedGroup<Session>) -> BTreeSet<u64> {
    let ids = std::cell::RefCell::new(BTreeSet::new());
    group.pick(|member| {
        ids.borrow_mut().insert(member.id());
        false
    });
    ids.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_index_finds_what_comparing_each_subscription_finds(
        ops in prop::collection::vec(any_op(), 1..60),
        names in prop::collection::vec("([ab$]|ab|)(/([ab]|cc|)){0,5}", 1..12),
        publisher in 0..6_u64,
        wide in any::<bool>(),
    ) {
        let index = Index::new();
        let mut oracle = Oracle::default();
        for n in 0..if wide { 20 } else { 0 } {
            // The nodes that the others hang on get many children.
            for text in [format!("w{n}/+"), format!("a/w{n}/+"), format!("+/w{n}/+"), format!("a/+/w{n}/#")] {
                index.subscribe(session(9), &filter(&text), QOS0);
                oracle.0.insert((9, filter(&text)), QOS0);
            }
        }
        let parse = |text: &String| SubscriptionFilter::parse(Text::try_from(text.as_str()).unwrap());
        for op in &ops {
            match op {
                Op::Subscribe(id, text, options) => {
                    let Ok(filter) = parse(text) else { continue };
                    let new = oracle.0.insert((*id, filter.clone()), *options).is_none();
                    prop_assert_eq!(index.subscribe(session(*id), &filter, *options), new);
                }
                Op::Unsubscribe(id, text) => {
                    let Ok(filter) = parse(text) else { continue };
                    let found = oracle.0.remove(&(*id, filter.clone())).is_some();
                    prop_assert_eq!(index.unsubscribe(*id, &filter), found);
                }
            }
        }
        prop_assert_eq!(index.subscriptions(), oracle.0.len());
        let mut out = Matches::new();
        for name in names.iter().filter_map(|name| TopicName::try_from(name.as_str()).ok()) {
            index.matches(&name, publisher, &mut out);
            let found: Expected = out.plain().iter().map(|hit| {
                let mut ids = hit.subscription_ids.to_vec();
                ids.sort_unstable();
                (hit.subscriber.id(), (hit.qos, hit.retain_as_published, ids))
            }).collect();
            prop_assert_eq!(out.plain().len(), found.len());
            prop_assert_eq!(found, oracle.plain(&name, publisher), "{}", name);
            let mut groups: Vec<_> =
                out.shared().iter().map(|group| (group.name().to_owned(), members(group))).collect();
            groups.sort();
            prop_assert_eq!(groups, oracle.shared(&name), "{}", name);
        }
        // Everything given back: the trie is empty again.
        for (id, filter) in oracle.0.keys() {
            prop_assert!(index.unsubscribe(*id, filter));
        }
        prop_assert_eq!(index.subscriptions(), 0);
        prop_assert!(index.exact.is_empty());
        prop_assert!(index.wild.is_empty());
    }
}

#[test]
fn only_filters_that_name_the_first_level_reach_what_is_below_aws() {
    let index = subscribed(&["#", "+/events/#", "$SYS/#", "$aws"]);
    assert!(!index.reaches_aws());
    let (plain, shared) = (filter("$aws/events/presence/#"), filter("$share/g/$aws/events/#"));
    assert!(index.subscribe(session(7), &plain, QOS0));
    assert!(index.subscribe(session(8), &shared, QOS0));
    assert!(!index.subscribe(session(7), &plain, QOS0), "replaced, not new");
    assert!(index.unsubscribe(7, &plain));
    assert!(index.reaches_aws(), "the shared one is left");
    assert!(index.unsubscribe(8, &shared));
    assert!(!index.unsubscribe(8, &shared));
    assert!(!index.reaches_aws());
}
