//! How a rotation goes, on a clock of the tests.

use super::*;

const START: Wall = Wall(1_767_225_600_000);
const MINUTE: Duration = Duration::from_secs(60);

fn name(text: &str) -> ThingName {
    ThingName::try_from(text).unwrap()
}

fn at(secs: u64) -> Wall {
    START.after(Duration::from_secs(secs))
}

/// A rotation of the devices d0, d1, ... with a spread of an hour, of which those in `connected` are preferred.
fn campaign(devices: usize, canaries: usize, connected: &[&str]) -> Campaign {
    let plan = Plan {
        id: "r".into(),
        created: START,
        by: Line::new("somebody"),
        spread: MINUTE * 60,
        deadline: START.after(MINUTE * 600),
        ask_again: MINUTE * 5,
        template: None,
    };
    let devices =
        (0..devices).map(|n| (name(&format!("d{n}")), CertificateId::of(&n.to_be_bytes()))).collect();
    Campaign::new(plan, &devices, canaries, &connected.iter().map(|text| name(text)).collect())
}

fn finish(campaign: &mut Campaign, device: &ThingName, now: Wall) {
    campaign.set(device, State::Done { new: None }, now);
}

fn canaries(campaign: &Campaign) -> Vec<ThingName> {
    campaign.members.iter().filter(|(_, member)| member.canary).map(|(name, _)| name.clone()).collect()
}

#[test]
fn commands_are_spread_evenly_and_each_device_gets_one() {
    let mut campaign = campaign(60, 0, &[]);
    let mut told = BTreeSet::new();
    for minute in 0..60 {
        let due = campaign.due(at(minute * 60), 100);
        assert_eq!(due.len(), 1, "minute {minute}");
        for device in due {
            campaign.told(&device, Told::Heard, at(minute * 60));
            finish(&mut campaign, &device, at(minute * 60));
            told.insert(device);
        }
    }
    assert_eq!((told.len(), campaign.phase.word()), (60, "finished"));
}

#[test]
fn one_round_tells_a_bounded_number() {
    let mut campaign = campaign(60, 0, &[]);
    assert_eq!(campaign.due(at(7200), 50).len(), 50);
    assert_eq!(campaign.due(at(7200), 50).len(), 10);
    assert_eq!(campaign.due(at(7200), 50).len(), 0);
}

#[test]
fn the_others_go_only_when_the_first_ones_are_through() {
    let mut campaign = campaign(20, 2, &["d7", "d11", "d13"]);
    let first = canaries(&campaign);
    assert!(first.iter().all(|device| ["d7", "d11", "d13"].contains(&device.as_str())), "{first:?}");
    let due: BTreeSet<_> = campaign.due(at(0), 100).into_iter().collect();
    assert_eq!(due, first.iter().cloned().collect());
    assert_eq!(campaign.due(at(7200), 100).len(), 0);
    finish(&mut campaign, &first[0], at(10));
    assert_eq!((campaign.phase.word(), campaign.due(at(20), 100).len()), ("canary", 0));
    finish(&mut campaign, &first[1], at(30));
    assert_eq!(campaign.phase, Phase::All { since: at(30) });
    assert_eq!(campaign.due(at(30), 100).len(), 1, "the spread begins now");
    assert_eq!(campaign.due(at(30 + 3600), 100).len(), 17);
}

#[test]
fn a_first_device_that_fails_holds_the_others_until_an_operator_decides() {
    let mut campaign = campaign(5, 1, &[]);
    let first = canaries(&campaign).remove(0);
    campaign.set(&first, State::Failed { why: Line::new("broken") }, at(1));
    assert_eq!(campaign.phase, Phase::Held { why: Line::new(&format!("{first}: broken")) });
    assert_eq!(campaign.due(at(7200), 100).len(), 0);
    assert!(!campaign.is_over());
    let mut cancelled = campaign.clone();
    assert!(cancelled.cancel() && !cancelled.cancel() && !cancelled.go_on(at(2)));
    assert!(campaign.go_on(at(2)) && !campaign.go_on(at(2)));
    assert_eq!(campaign.due(at(2 + 3600), 100).len(), 4);
}

#[test]
fn a_device_that_is_away_is_told_when_it_comes_back() {
    let mut campaign = campaign(1, 0, &[]);
    let device = name("d0");
    // It is looked for a few times, as it may subscribe in a moment, and then left alone.
    let mut now = at(0);
    for _ in 0..LOOKS_MAX {
        assert_eq!(campaign.due(now, 10).len(), 1);
        campaign.told(&device, Told::Unheard, now);
        now = now.after(LOOKS_AGAIN_AFTER);
    }
    assert_eq!(campaign.due(at(3600), 10).len(), 0);
    assert_eq!(campaign.members[&device].state, State::Offline);
    campaign.arrived(&device, at(3600));
    assert_eq!(campaign.due(at(3600), 10).len(), 0, "it has not subscribed yet");
    assert_eq!(campaign.due(at(3601), 10).len(), 1);
    campaign.told(&device, Told::Heard, at(3601));
    assert_eq!(campaign.members[&device].state, State::Asked { at: at(3601) });
    // One that comes back without having been missed is not told again.
    campaign.arrived(&device, at(3605));
    assert_eq!(campaign.due(at(3700), 10).len(), 0);
}

#[test]
fn a_device_that_does_nothing_is_told_three_times_and_has_failed_then() {
    let mut campaign = campaign(1, 0, &[]);
    let device = name("d0");
    for time in 0..u64::from(ASKED_MAX) {
        assert_eq!(campaign.due(at(time * 300), 10).len(), 1, "time {time}");
        campaign.told(&device, Told::Heard, at(time * 300));
    }
    assert_eq!(campaign.due(at(u64::from(ASKED_MAX) * 300), 10).len(), 0);
    assert_eq!(campaign.members[&device].state.word(), "failed");
    assert_eq!(campaign.phase, Phase::Finished);
}

#[test]
fn the_deadline_ends_it_with_a_reason_for_each() {
    let mut campaign = campaign(4, 0, &[]);
    let due = campaign.due(at(2000), 100);
    campaign.told(&due[0], Told::Heard, at(0));
    campaign.told(&due[1], Told::Unheard, at(0));
    campaign.told(&due[2], Told::Refused, at(0));
    campaign.expire(at(35_999));
    assert_eq!(campaign.phase.word(), "all");
    campaign.expire(at(36_000));
    assert_eq!(campaign.phase, Phase::Finished);
    let reasons: BTreeSet<_> = campaign
        .members
        .values()
        .map(|member| match &member.state {
            State::Failed { why } => why.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
}

#[test]
fn after_a_restart_it_goes_on_with_those_who_have_not_begun() {
    let mut campaign = campaign(4, 1, &[]);
    let first = canaries(&campaign).remove(0);
    campaign.due(at(0), 10);
    campaign.told(&first, Told::Heard, at(0));
    let text = serde_json::to_string(&campaign).unwrap();
    let mut again: Campaign = serde_json::from_str(&text).unwrap();
    again.resume();
    assert_eq!(again.due(at(60), 10), std::slice::from_ref(&first));
    finish(&mut again, &first, at(70));
    assert_eq!(again.phase.word(), "all");
    let mut over: Campaign = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
    over.resume();
    assert_eq!(over.due(at(70 + 3600), 10).len(), 3);
}
