//! `[revocation]`, `[standing]` and `[clones]` in the file.

use crate::good::{read, refusal};
use signet_config::{CloneAction, RetainedOfRevoked, SessionOfRevoked, TopicPatterns, WillOfRevoked};
use std::time::Duration;

#[test]
fn without_a_word_the_safe_consequences_hold() {
    let checked = read("").unwrap();
    let status = TopicPatterns::new(vec!["devices/%u/status".to_owned()]).unwrap();
    assert_eq!(checked.revocation.will, WillOfRevoked::Suppress);
    assert_eq!(checked.revocation.retained, RetainedOfRevoked::Status(status));
    assert_eq!(checked.revocation.session, SessionOfRevoked::Delete);
    assert_eq!(checked.standing.expired_grace, Duration::ZERO);
    assert_eq!(checked.standing.recovery_topics.as_slice(), ["devices/%u/certs/#"]);
    assert_eq!(checked.standing.refused_pause_max, Some(Duration::from_secs(60)));
    assert_eq!(checked.clones.action, CloneAction::Alarm);
    assert_eq!((checked.clones.returns.get(), checked.clones.within), (5, Duration::from_secs(600)));
}

#[test]
fn every_consequence_can_be_chosen() {
    let checked = read(
        "[registry]\nmode = \"on\"\n[revocation]\nwill = \"send\"\nretained = \"all\"\nsession = \"keep\"\n\
         [standing]\nexpired-grace = \"7d\"\nrecovery-topics = [\"d/%u/in\", \"d/%u/out/+\"]\nrefused-pause-max = 0\n\
         [clones]\naction = \"quarantine\"\nreturns = 2\nwithin = \"1h\"\n",
    )
    .unwrap();
    assert_eq!(checked.revocation.will, WillOfRevoked::Send);
    assert_eq!(checked.revocation.retained, RetainedOfRevoked::All);
    assert_eq!(checked.revocation.session, SessionOfRevoked::Keep);
    assert_eq!(checked.standing.expired_grace, Duration::from_secs(7 * 86_400));
    assert_eq!(checked.standing.recovery_topics.as_slice(), ["d/%u/in", "d/%u/out/+"]);
    assert_eq!(checked.standing.refused_pause_max, None);
    assert_eq!(checked.clones.action, CloneAction::Quarantine);
    assert_eq!(
        read("[revocation]\nretained = \"keep\"\n").unwrap().revocation.retained,
        RetainedOfRevoked::Keep
    );
}

#[test]
fn what_is_no_pattern_of_one_name_is_refused() {
    for (topics, what) in [
        ("[\"\"]", "is empty"),
        ("[\"devices/all/status\"]", "not a topic pattern"),
        ("[\"devices/%c/status\"]", "%c"),
        ("[\"devices/%u/#/status\"]", "not a topic pattern"),
        ("[\"devices/x%u/status\"]", "not a topic pattern"),
        ("[\"devices/%u/a\\nuser admin\"]", "not a topic pattern"),
        ("[\" devices/%u\"]", "not a topic pattern"),
    ] {
        for key in ["[revocation]\nstatus-topics", "[standing]\nrecovery-topics"] {
            let problem = refusal(&format!("{key} = {topics}\n"));
            assert!(problem.message.contains(what), "{topics}: {problem}");
        }
    }
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let problem = refusal("[revocation]\nretained = \"all\"\nstatus-topics = [\"a/%u\"]\n");
    assert!(problem.message.contains("no effect"), "{problem}");
    let problem = refusal("[clones]\naction = \"quarantine\"\n");
    assert!(problem.message.contains("needs the registry"), "{problem}");
    let problem = refusal("[standing]\nexpired-grace = \"1500ms\"\n");
    assert!(problem.message.contains("whole seconds"), "{problem}");
}
