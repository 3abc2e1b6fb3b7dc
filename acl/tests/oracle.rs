//! The compiled engine against a literal restatement of the documented order of evaluation, on random policies,
//! names and topics.
//!
//! The restatement shares no code with the engine: it works on the text of the policy, replaces variables by their
//! values, scans lists in Mosquitto's order (each `deny` put in front of its list), and compares filters with the
//! matcher of the wire crate. Whether a filter is covered by another is decided by enumerating topics.

mod support;

use signet_acl::{Access, DenyCause, Policy, Question, Subject, diff};
use signet_identity::{Principal, Role};
use signet_wire::{TopicFilter, TopicName};
use support::{LENIENT, claim, device, filter, member, operator, operator_in, policy_with, topic};

/// SplitMix64: the cases are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// What a case is made of; fewer levels for tests that enumerate topics.
struct Words {
    rule: &'static [&'static str],
    topic: &'static [&'static str],
    depth: usize,
}

const WIDE: Words = Words {
    rule: &[
        "a", "b", "+", "+", "", "u1", "c1", "%u", "%u", "%c", "%t", "$SYS", "$aws", "$share", "x-%u",
        "$CONTROL",
    ],
    topic: &["a", "a", "b", "", "u1", "u2", "c1", "$SYS", "$aws", "$share", "%u", "%c", "x-%u", "$CONTROL"],
    depth: 4,
};

const NARROW: Words = Words {
    rule: &["a", "a", "+", "+", "", "u1", "%u", "%c", "%t", "$SYS"],
    topic: &["a", "u1", "z", "", "$SYS"],
    depth: 3,
};

fn random_levels(random: &mut Random, words: &[&str], depth: usize, hash: bool) -> String {
    let depth = 1 + random.below(depth);
    let mut levels: Vec<&str> = (0..depth).map(|_| random.pick(words)).collect();
    if hash && random.below(3) == 0 {
        levels[depth - 1] = "#";
    }
    if levels == [""] {
        levels[0] = "a";
    }
    levels.join("/")
}

fn random_policy(random: &mut Random, words: &Words) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.below(8) {
        match random.below(8) {
            0 => text += "user u1\n",
            1 => text += "user u2\n",
            2 => text += random.pick(&["role device\n", "role operator\n", "role g1\n", "role g2\n"]),
            _ => {}
        }
        let keyword = random.pick(&["topic", "topic", "pattern"]);
        let access = random.pick(&["read ", "write ", "readwrite ", "deny ", ""]);
        text += &format!("{keyword} {access}{}\n", random_levels(random, words.rule, words.depth, true));
    }
    text
}

fn principals() -> Vec<Principal> {
    vec![
        device("u1"),
        device("u2"),
        device("a"),
        member("u1", &["g1"]),
        member("u3", &["g1", "g2"]),
        operator("u1"),
        operator_in("o", &["g2"]),
    ]
}

const CLIENT_IDS: &[&str] = &["c1", "c1", "u1", "a", "a/b", "+", "c#", "$SYS", "%u", "$aws", "#", ""];

/// A rule of the text: whether it denies, reads, writes, and its filter with variables replaced.
type Line = (bool, bool, bool, String);

/// The lists that apply to `who` in the order in which they are scanned, and whether the patterns are among them.
fn lists(text: &str, who: &Subject<'_>) -> (Vec<Vec<Line>>, bool) {
    let principal = who.principal;
    let (mut user, mut role, mut patterns) = (Vec::new(), Vec::new(), Vec::new());
    let mut any_pattern = false;
    let mut section = String::new();
    for line in text.lines() {
        let (keyword, rest) = line.split_once(' ').expect("generated lines have two words");
        if keyword == "user" || keyword == "role" {
            section = line.to_owned();
            continue;
        }
        let (access, rule) = rest.split_once(' ').unwrap_or(("readwrite", rest));
        let pattern = keyword == "pattern";
        let global = pattern && !section.starts_with("role ");
        any_pattern |= global;
        let rule = if pattern { replaced(rule, who) } else { Some(rule.to_owned()) };
        let Some(rule) = rule else { continue };
        let line = (access == "deny", access.starts_with("read"), access.ends_with("write"), rule);
        let in_role = section.strip_prefix("role ").is_some_and(|name| {
            name == principal.role().as_str() || principal.groups().iter().any(|group| group.as_str() == name)
        });
        let list = if global {
            &mut patterns
        } else if in_role {
            &mut role
        } else if section == format!("user {}", principal.name()) {
            &mut user
        } else {
            continue;
        };
        if line.0 { list.insert(0, line) } else { list.push(line) }
    }
    (vec![user, role, patterns], any_pattern)
}

/// The pattern with its variables replaced; none when a variable has no value that is one plain level.
fn replaced(pattern: &str, who: &Subject<'_>) -> Option<String> {
    let mut levels = Vec::new();
    for level in pattern.split('/') {
        let value = match level {
            "%u" => Some(who.principal.name().as_str()),
            "%c" => Some(who.client_id),
            "%t" if who.principal.role() == Role::Device => Some(who.principal.name().as_str()),
            "%t" => return None,
            _ => None,
        };
        match value {
            None => levels.push(level),
            Some(value) if value.is_empty() || value.contains(['/', '+', '#']) => return None,
            Some(value) if levels.is_empty() && value.starts_with('$') => return None,
            Some(value) => levels.push(value),
        }
    }
    Some(levels.join("/"))
}

/// The order of evaluation, with `matches` to say whether a rule's filter applies to what is asked.
fn evaluate(text: &str, who: &Subject<'_>, write: bool, matches: impl Fn(&str) -> bool) -> bool {
    let (lists, any_pattern) = lists(text, who);
    for (stage, list) in lists.iter().enumerate() {
        if stage == 2 && any_pattern && who.client_id.contains(['+', '#']) {
            return false;
        }
        for (deny, reads, writes, rule) in list {
            if matches(rule) {
                if *deny {
                    return false;
                }
                if if write { *writes } else { *reads } {
                    return true;
                }
            }
        }
    }
    false
}

fn oracle(text: &str, who: &Subject<'_>, write: bool, asked: &TopicName) -> bool {
    let state: TopicFilter = filter("$SYS/broker/connection/+/state");
    if asked.starts_with("$share") || (write && asked.starts_with("$CONTROL/")) {
        return false;
    }
    if write && asked.starts_with("$SYS") && !state.matches(asked) {
        return false;
    }
    // The words of the test make no request of provisioning, and what else is below $aws is the broker's.
    if write && asked.starts_with("$aws/") {
        return false;
    }
    evaluate(text, who, write, |rule| filter(rule).matches(asked))
}

fn explain_agrees(policy: &Policy, who: &Subject<'_>, access: Access, asked: &str) {
    let explanation = policy.explain(who, &Question::new(access, asked).expect("a question"));
    let decided = explanation.decided_by().map(|rule| rule.rule);
    match explanation.verdict {
        Ok(rule) => assert_eq!(decided, Some(rule), "{explanation}"),
        Err(denied) => match denied.because {
            DenyCause::Rule(rule) => assert_eq!(decided, Some(rule), "{explanation}"),
            _ => assert_eq!(decided, None, "{explanation}"),
        },
    }
}

#[test]
fn decisions_are_those_of_the_documented_order_on_random_policies() {
    let mut random = Random(1);
    let principals = principals();
    let (mut asked, mut granted) = (0u32, 0u32);
    for case in 0..20_000 {
        let text = random_policy(&mut random, &WIDE);
        let policy = policy_with(&text, &LENIENT);
        for _ in 0..15 {
            let principal = &principals[random.below(principals.len())];
            let who = Subject { principal, client_id: random.pick(CLIENT_IDS) };
            let name = topic(&random_levels(&mut random, WIDE.topic, WIDE.depth, false));
            let (reads, writes) = (policy.may_receive(&who, &name), policy.may_publish(&who, &name));
            let expected = (oracle(&text, &who, false, &name), oracle(&text, &who, true, &name));
            let shown = || format!("case {case}\n{text}\n{who:?} {name:?}");
            assert_eq!((reads.is_ok(), writes.is_ok()), expected, "{}", shown());
            explain_agrees(&policy, &who, Access::Read, &name);
            explain_agrees(&policy, &who, Access::Write, &name);
            asked += 2;
            granted += u32::from(reads.is_ok()) + u32::from(writes.is_ok());
        }
    }
    assert_eq!(asked, 600_000);
    assert!(
        granted > asked / 20 && granted < asked / 2,
        "{granted} of {asked} granted: the cases say little"
    );
}

/// Every topic of up to four of the levels that the narrow rules know, and one that they do not (`z`). A filter
/// that is not covered by a rule of at most three levels leaves one of these outside of it.
fn universe() -> Vec<TopicName> {
    let mut all: Vec<String> = Vec::new();
    let mut longest: Vec<String> = NARROW.topic.iter().map(|level| (*level).to_owned()).collect();
    for _ in 0..3 {
        let longer =
            longest.iter().flat_map(|text| NARROW.topic.iter().map(move |level| format!("{text}/{level}")));
        let longer = longer.collect();
        all.append(&mut longest);
        longest = longer;
    }
    all.append(&mut longest);
    all.retain(|text| !text.is_empty());
    all.iter().map(|text| topic(text)).collect()
}

#[test]
fn a_subscription_is_granted_exactly_when_one_rule_covers_all_that_the_filter_matches() {
    let mut random = Random(2);
    let universe = universe();
    let principals = principals();
    let filter_words = ["a", "a", "+", "+", "", "u1", "z", "$SYS"];
    let (mut granted, mut refused) = (0u32, 0u32);
    for case in 0..1500 {
        let text = random_policy(&mut random, &NARROW);
        let policy = policy_with(&text, &LENIENT);
        for _ in 0..8 {
            let principal = &principals[random.below(principals.len())];
            let who = Subject { principal, client_id: random.pick(CLIENT_IDS) };
            let asked = filter(&random_levels(&mut random, &filter_words, 3, true));
            let matched: Vec<&TopicName> = universe.iter().filter(|topic| asked.matches(topic)).collect();
            assert!(!matched.is_empty(), "{asked:?}");
            let covers = |rule: &str| {
                let rule = filter(rule);
                matched.iter().all(|topic| rule.matches(topic))
            };
            let shown = || format!("case {case}\n{text}\n{who:?} {asked:?}");
            let answer = policy.may_subscribe(&who, &asked);
            assert_eq!(answer.is_ok(), evaluate(&text, &who, false, covers), "{}", shown());
            explain_agrees(&policy, &who, Access::Subscribe, &asked);
            match answer {
                Err(_) => refused += 1,
                Ok(_) => {
                    granted += 1;
                    for topic in matched {
                        let delivered = policy.may_receive(&who, topic).map_err(|denied| denied.because);
                        assert!(
                            matches!(delivered, Ok(_) | Err(DenyCause::Rule(_))),
                            "{} {topic:?}",
                            shown()
                        );
                    }
                }
            }
        }
    }
    assert!(granted > 1000 && refused > 1000, "{granted} granted, {refused} refused: the cases say little");
}

#[test]
fn every_difference_between_two_policies_is_told_and_nothing_else() {
    let mut random = Random(3);
    let universe = universe();
    let mut principals = principals();
    principals.push(claim("u1", &["fleet"]));
    let mut told = 0;
    for case in 0..600 {
        let (old_text, new_text) = (random_policy(&mut random, &NARROW), random_policy(&mut random, &NARROW));
        let (old, new) = (policy_with(&old_text, &LENIENT), policy_with(&new_text, &LENIENT));
        let principal = &principals[random.below(principals.len())];
        let who = Subject { principal, client_id: random.pick(CLIENT_IDS) };
        let diff = diff(&old, &new, [who]);
        let shown = || format!("case {case}\n{old_text}\n{new_text}\n{who:?} {diff:#?}");
        for topic in &universe {
            for write in [false, true] {
                let allowed = |policy: &Policy| {
                    let answer =
                        if write { policy.may_publish(&who, topic) } else { policy.may_receive(&who, topic) };
                    answer.is_ok()
                };
                if allowed(&old) != allowed(&new) {
                    let covers = |change: &&signet_acl::Change| {
                        let gains = change.direction == signet_acl::Direction::Gains;
                        change.write == write
                            && gains == allowed(&new)
                            && filter(&change.filter).matches(topic)
                    };
                    assert!(diff.changes.iter().any(|change| covers(&change)), "{topic:?} {}", shown());
                }
            }
        }
        for change in &diff.changes {
            told += 1;
            let asked = filter(&change.filter);
            let matched: Vec<&TopicName> = universe.iter().filter(|topic| asked.matches(topic)).collect();
            // What is below $ has rules of its own, and a claim has rights that are not in the text.
            if matched.is_empty() || asked.starts_with('$') || principal.role() == Role::Claim {
                continue;
            }
            let covers = |rule: &str| {
                let rule = filter(rule);
                matched.iter().all(|topic| rule.matches(topic))
            };
            let allowed = |text: &str| evaluate(text, &who, change.write, covers);
            let gains = change.direction == signet_acl::Direction::Gains;
            assert_eq!((allowed(&old_text), allowed(&new_text)), (!gains, gains), "{change} {}", shown());
        }
    }
    assert!(told > 500, "{told} changes: the cases say little");
}
