//! What is left of a device whose certificate a revocation list of an outside authority names, connected or not, and what a
//! start leaves of those whom nobody has registered.

use crate::{ADMINISTRATIVE_ACTION, FLEET, NOT_AUTHORIZED};
use signet_certs_dev::{Authority, CrlProfile, Leaf, LeafProfile, Validity};
use signet_registry::{CaSettings, Command, RevocationReason, Selector, SerialNumber, Source, UnknownPolicy};
use signet_tests::build::*;
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use signet_tests::registered::{issuing_key, registered};
use signet_tests::test_broker::{Settings, TestBroker, issue};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// A broker with a certificate of the one who reads everything.
struct Scene {
    broker: TestBroker,
    admin: Leaf,
}

impl std::ops::Deref for Scene {
    type Target = TestBroker;

    fn deref(&self) -> &TestBroker {
        &self.broker
    }
}

fn with_registry() -> Scene {
    let scene = Scene { broker: registered(FLEET, "", ""), admin: issue("admin") };
    scene.enrol(&scene.admin, "admin");
    scene
}

fn without_registry(tables: &str) -> Scene {
    let broker = TestBroker::start_with(FLEET, Settings { tables, ..Settings::default() });
    Scene { broker, admin: issue("admin") }
}

fn dial(broker: &TestBroker, leaf: &Leaf, open: &Connect) -> RawClient {
    broker.anonymous().presenting(leaf).connect(open, V5)
}

/// What a device leaves behind that goes away: a retained status and telemetry, a session with a queue, and a will that is
/// still to come.
fn leave(broker: &Scene, device: &Leaf, name: &str) {
    let late = will(format!("devices/{name}/last-will"), "late").delay(3600);
    let mut away = dial(broker, device, &connect(V5, "away").persistent().will(late));
    away.subscribe(&format!("devices/{name}/commands/#"), 1);
    for topic in ["status", "telemetry"] {
        away.send(publish(V5, format!("devices/{name}/{topic}"), "on").qos1(1).retain().bytes());
        away.expect_puback(1, 0);
    }
    let before = broker.broker().hub().connected_count();
    away.drop_connection();
    while broker.broker().hub().connected_count() >= before {
        std::thread::yield_now();
    }
    let mut admin = dial(broker, &broker.admin, &connect(V5, "command"));
    admin.publish(&format!("devices/{name}/commands/x"), "queued", 0);
    admin.send(disconnect());
    admin.expect_closed();
}

fn list(broker: &TestBroker, listed: &[&Leaf]) {
    let serials: Vec<_> = listed.iter().map(|leaf| leaf.serial()).collect();
    broker.reload_file("issuing.crl", &TestBroker::crl_with(&serials)).expect("the list is good");
}

/// The topics that are retained now, as the admin sees them.
fn retained(broker: &Scene) -> Vec<String> {
    let mut watcher = dial(broker, &broker.admin, &connect(V5, "look"));
    watcher.send(subscribe(V5, 7, &[sub("devices/#", 0)]));
    watcher.expect_suback(7, &[0]);
    watcher.send(pingreq());
    let mut topics = Vec::new();
    loop {
        match watcher.receive() {
            Received::Publish(publish) => topics.push(publish.topic),
            Received::PingResp => break,
            other => panic!("{other:?}"),
        }
    }
    watcher.send(disconnect());
    watcher.expect_closed();
    topics
}

/// Whether the session that [`leave`] left is still there, for a certificate that is in force.
fn comes_back_to_its_session(broker: &Scene, leaf: &Leaf) -> bool {
    let open = connect(V5, "away").persistent();
    let (mut back, present, _) = broker.anonymous().presenting(leaf).connected(&open, V5);
    if present {
        back.expect_publish("devices/sensor-1/commands/x", "queued");
    }
    back.expect_nothing();
    present
}

#[track_caller]
fn nothing_is_left_but_the_telemetry(broker: &Scene) {
    assert_eq!(broker.broker().status().sessions, 0);
    assert_eq!(retained(broker), ["devices/sensor-1/telemetry"]);
    assert_eq!(broker.broker().hub().counters().snapshot().wills_sent, 0);
}

#[track_caller]
fn everything_is_left(broker: &Scene) {
    assert_eq!(retained(broker), ["devices/sensor-1/status", "devices/sensor-1/telemetry"]);
}

#[test]
fn who_is_not_connected_loses_what_a_revocation_in_the_registry_takes() {
    let broker = with_registry();
    let (device, other) = (issue("sensor-1"), issue("sensor-2"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&other, "sensor-2");
    leave(&broker, &device, "sensor-1");
    list(&broker, &[&other]);
    everything_is_left(&broker);
    list(&broker, &[&other, &device]);
    nothing_is_left_but_the_telemetry(&broker);
    let next = issue("sensor-1");
    broker.enrol(&next, "sensor-1");
    assert!(!comes_back_to_its_session(&broker, &next));
}

#[test]
fn without_a_registry_it_is_the_same() {
    let broker = without_registry("");
    let (device, other) = (issue("sensor-1"), issue("sensor-2"));
    leave(&broker, &device, "sensor-1");
    list(&broker, &[&other]);
    everything_is_left(&broker);
    list(&broker, &[&other, &device]);
    nothing_is_left_but_the_telemetry(&broker);
    assert!(!comes_back_to_its_session(&broker, &issue("sensor-1")));
}

#[test]
fn an_authority_on_a_list_takes_what_its_devices_left() {
    const ON: Settings<'_> =
        Settings { listener: "", acl: "", limits: "", identity: "", tables: "[registry]\nmode = \"on\"\n" };
    for registered_ones in [true, false] {
        // As an anchor of its own, and below the root.
        for anchors in ["\"root-ca.crt\", \"issuing-ca.crt\"", "\"root-ca.crt\""] {
            let broker = if registered_ones { with_registry() } else { without_registry("") };
            let text = TestBroker::settings_text(if registered_ones { ON } else { Settings::default() });
            let text = text.replace("\"root-ca.crt\", \"issuing-ca.crt\"", anchors);
            broker.reload_file("signet.toml", &text).expect("the anchors are good");
            let device = issue("sensor-1");
            if registered_ones {
                broker.enrol(&device, "sensor-1");
            }
            leave(&broker, &device, "sensor-1");
            let mut live = dial(&broker, &device, &connect(V5, "live").persistent());
            let both = format!("{}{}", TestBroker::crl_with(&[]), TestBroker::crl_of_the_root());
            broker.reload_file("issuing.crl", &both).expect("the lists are good");
            live.expect_closed_with(ADMINISTRATIVE_ACTION);
            let left = broker.broker();
            assert_eq!(
                (left.status().sessions, left.hub().retained_fill().0),
                (0, 1),
                "{registered_ones} {anchors}"
            );
        }
    }
}

/// The lists of `plant` and of the root, which names these.
fn lists_of_the_root(plant: &Authority, listed: &[&Authority], number: u64) -> String {
    let listed: Vec<_> = listed.iter().map(|authority| authority.serial()).collect();
    let own = CrlProfile::new(1, OffsetDateTime::now_utc(), 30, &[]);
    let own = plant.crl(&own).expect("a list can be made").pem();
    let root = TestBroker::crl_of_the_root_with(&listed, number);
    // Who signed a list stands beside it.
    [TestBroker::crl_with(&[]), own, plant.certificate_pem(), root].concat()
}

/// Leaves something of a device below each of these authorities, which have one key.
fn below(broker: &Scene, authorities: &[(&Authority, &str)]) {
    let until = Validity::days_from(OffsetDateTime::now_utc(), 30);
    broker.reload_file("issuing.crl", &lists_of_the_root(authorities[0].0, &[], 1)).expect("good lists");
    for (authority, name) in authorities {
        let device = authority.issue(&LeafProfile::device(name, until)).expect("a certificate");
        leave(broker, &device, name);
    }
}

#[test]
fn an_authority_that_was_renewed_with_its_key_loses_no_device_when_its_old_certificate_is_listed() {
    let [old, new] = TestBroker::renewed_authority();
    let broker = without_registry("");
    below(&broker, &[(&old, "sensor-1"), (&new, "sensor-2")]);
    let list = |listed: &[&Authority], number| {
        broker.reload_file("issuing.crl", &lists_of_the_root(&new, listed, number)).expect("good lists");
    };
    list(&[&old], 2);
    // A device may come back with the new certificate in its chain.
    let all = ["sensor-1/status", "sensor-1/telemetry", "sensor-2/status", "sensor-2/telemetry"];
    let left = || {
        let mut topics = retained(&broker);
        topics.sort();
        topics
    };
    assert_eq!(left(), all.map(|topic| format!("devices/{topic}")));
    list(&[&old, &new], 3);
    assert_eq!(left(), ["devices/sensor-1/telemetry", "devices/sensor-2/telemetry"]);
}

#[test]
fn an_authority_whose_listed_certificate_is_the_only_one_known_loses_its_devices_unless_its_key_is_an_anchor()
{
    for is_anchor in [false, true] {
        let [old, new] = TestBroker::renewed_authority();
        let broker = without_registry("");
        below(&broker, &[(&old, "sensor-1")]);
        if is_anchor {
            broker.put("plant.crt", &new.certificate_pem());
            let text = TestBroker::settings_text(Settings::default());
            let text = text.replace("\"issuing-ca.crt\"", "\"issuing-ca.crt\", \"plant.crt\"");
            broker.reload_file("signet.toml", &text).expect("the anchors are good");
        }
        let lists = lists_of_the_root(&new, &[&old], 2);
        broker.reload_file("issuing.crl", &lists).expect("good lists");
        if is_anchor {
            everything_is_left(&broker);
        } else {
            nothing_is_left_but_the_telemetry(&broker);
        }
    }
}

#[test]
fn who_has_another_certificate_keeps_everything_until_that_is_listed_too() {
    let broker = with_registry();
    let (device, next) = (issue("sensor-1"), issue("sensor-1"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&next, "sensor-1");
    leave(&broker, &device, "sensor-1");
    list(&broker, &[&device]);
    everything_is_left(&broker);
    assert!(comes_back_to_its_session(&broker, &next));
    list(&broker, &[&device, &next]);
    let patience = Instant::now() + Duration::from_secs(20);
    while broker.broker().status().sessions > 0 {
        assert!(Instant::now() < patience, "the session ends with its connection");
        std::thread::yield_now();
    }
    assert_eq!(retained(&broker), ["devices/sensor-1/telemetry"]);
}

#[test]
fn without_a_registry_another_certificate_that_is_known_keeps_everything() {
    let broker = without_registry("");
    let (device, next) = (issue("sensor-1"), issue("sensor-1"));
    leave(&broker, &device, "sensor-1");
    let mut other = dial(&broker, &next, &connect(V5, "other"));
    list(&broker, &[&device]);
    other.expect_nothing();
    everything_is_left(&broker);
    assert!(comes_back_to_its_session(&broker, &next));
}

#[test]
fn a_suspended_certificate_beside_the_listed_one_keeps_what_it_may_come_back_to() {
    let broker = with_registry();
    let (device, next) = (issue("sensor-1"), issue("sensor-1"));
    broker.enrol(&device, "sensor-1");
    broker.enrol(&next, "sensor-1");
    leave(&broker, &device, "sensor-1");
    broker.suspend(&next);
    list(&broker, &[&device]);
    everything_is_left(&broker);
    broker.activate(&next);
    assert!(comes_back_to_its_session(&broker, &next));
}

#[test]
fn the_other_sessions_of_a_connected_device_end_with_it() {
    for registered_ones in [true, false] {
        let broker = if registered_ones { with_registry() } else { without_registry("") };
        let device = issue("sensor-1");
        if registered_ones {
            broker.enrol(&device, "sensor-1");
        }
        leave(&broker, &device, "sensor-1");
        let mut live = dial(&broker, &device, &connect(V5, "live").persistent());
        list(&broker, &[&device]);
        live.expect_closed_with(ADMINISTRATIVE_ACTION);
        nothing_is_left_but_the_telemetry(&broker);
    }
}

#[test]
fn what_a_list_takes_follows_the_policy_for_revocations() {
    let broker = without_registry("[revocation]\nretained = \"all\"\nsession = \"keep\"\n");
    let device = issue("sensor-1");
    leave(&broker, &device, "sensor-1");
    list(&broker, &[&device]);
    assert_eq!(retained(&broker), Vec::<String>::new());
    assert!(comes_back_to_its_session(&broker, &issue("sensor-1")));
}

#[test]
fn a_list_that_came_while_the_broker_was_down_takes_the_same() {
    const TABLES: &str = "[store]\ndirectory = \"store\"\n";
    for registered_ones in [true, false] {
        let scene = if registered_ones {
            let scene = Scene { broker: registered(FLEET, "", TABLES), admin: issue("admin") };
            scene.enrol(&scene.admin, "admin");
            scene
        } else {
            without_registry(TABLES)
        };
        let (device, other) = (issue("sensor-1"), issue("sensor-2"));
        if registered_ones {
            scene.enrol(&device, "sensor-1");
            scene.enrol(&other, "sensor-2");
        }
        leave(&scene, &device, "sensor-1");
        let Scene { broker, admin } = scene;
        let put = |broker: &TestBroker, listed: &[&Leaf]| {
            let serials: Vec<_> = listed.iter().map(|leaf| leaf.serial()).collect();
            broker.put("issuing.crl", &TestBroker::crl_with(&serials));
        };
        let scene = Scene { broker: broker.restarted(|broker| put(broker, &[&other])), admin };
        everything_is_left(&scene);
        let Scene { broker, admin } = scene;
        let scene = Scene { broker: broker.restarted(|broker| put(broker, &[&other, &device])), admin };
        nothing_is_left_but_the_telemetry(&scene);
    }
}

#[test]
fn from_the_return_on_nothing_comes_from_or_goes_to_any_of_many() {
    const MANY: usize = 60;
    let broker = with_registry();
    let mut watcher = dial(&broker, &broker.admin, &connect(V5, "watcher"));
    watcher.subscribe("devices/+/telemetry", 0);
    let mut commander = dial(&broker, &broker.admin, &connect(V5, "commander"));
    let devices: Vec<Leaf> = (0..MANY).map(|n| issue(&format!("many-{n}"))).collect();
    let mut clients = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        broker.enrol(device, &format!("many-{n}"));
        let mut client = dial(&broker, device, &connect(V5, "a"));
        client.subscribe(&format!("devices/many-{n}/commands/#"), 0);
        clients.push(client);
    }
    let all: Vec<&Leaf> = devices.iter().collect();
    watcher.subscribe("devices/marker/commands/#", 0);
    std::thread::scope(|scope| {
        let talking: Vec<_> = (clients.into_iter().enumerate())
            .map(|(n, client)| scope.spawn(move || talk_until_closed(client, &format!("many-{n}"))))
            .collect();
        assert!(matches!(watcher.receive(), Received::Publish(_)), "they talk");
        list(&broker, &all);
        // What was routed before stands in the watcher's queue before this.
        commander.publish("devices/marker/commands/x", "after", 0);
        for n in 0..MANY {
            commander.publish(&format!("devices/many-{n}/commands/x"), "late", 0);
        }
        while !matches!(watcher.receive(), Received::Publish(heard) if heard.topic.starts_with("devices/marker/"))
        {
        }
        let heard: usize = talking.into_iter().map(|client| client.join().expect("it talks")).sum();
        assert_eq!(heard, 0, "a command reached somebody who was revoked");
    });
    watcher.expect_nothing();
}

/// Publishes until the broker closes; how many messages it heard.
fn talk_until_closed(mut client: RawClient, name: &str) -> usize {
    let say = join(&[&publish(V5, format!("devices/{name}/telemetry"), "x").bytes(), &pingreq()]);
    let mut heard = 0;
    loop {
        let _ = client.try_send(&say);
        match client.receive_or_end() {
            None => return heard,
            Some(Received::Publish(_)) => heard += 1,
            Some(_) => {}
        }
    }
}

/// A broker with a registry that knows the authority and the admin, on what [`leave`] left in one without.
fn registry_turned_on(device: &Leaf) -> Scene {
    const ON: &str = "[store]\ndirectory = \"store\"\n[registry]\nmode = \"on\"\n";
    let scene = without_registry("[store]\ndirectory = \"store\"\n");
    leave(&scene, device, "sensor-1");
    let Scene { broker, admin } = scene;
    let text = TestBroker::settings_text(Settings { tables: ON, ..Settings::default() });
    let scene = Scene { broker: broker.restarted(|broker| broker.put("signet.toml", &text)), admin };
    scene.add_authority(Source::Outside);
    scene.enrol(&scene.admin, "admin");
    scene
}

#[test]
fn a_registry_that_is_turned_on_takes_nothing_from_whom_it_does_not_know() {
    let device = issue("sensor-1");
    let broker = registry_turned_on(&device);
    everything_is_left(&broker);
    let ca = broker.registry().registry().cas().next().expect("it was added").id;
    let names = vec!["sensor-*".parse().expect("a pattern")];
    let settings =
        CaSettings { registers: true, unknown: UnknownPolicy::Auto, ..CaSettings::registered_only(names) };
    broker.must(Command::UpdateCa { ca, settings });
    assert!(comes_back_to_its_session(&broker, &device));
}

#[test]
fn a_start_takes_from_whom_the_registry_does_not_know_and_has_revoked() {
    let device = issue("sensor-1");
    let broker = registry_turned_on(&device);
    let serial = SerialNumber::new(device.serial().as_bytes()).expect("a serial number");
    let selector = Selector::Serial { issuer: Some(issuing_key()), serial };
    broker.must(Command::Revoke { selector, reason: RevocationReason::KeyCompromise });
    everything_is_left(&broker);
    let Scene { broker, admin } = broker;
    let broker = Scene { broker: broker.restarted(|_| ()), admin };
    nothing_is_left_but_the_telemetry(&broker);
}

/// A device that [`leave`] left something of.
fn somebody_left(registered_ones: bool) -> (Scene, Leaf) {
    let broker = if registered_ones { with_registry() } else { without_registry("") };
    let device = issue("sensor-1");
    if registered_ones {
        broker.enrol(&device, "sensor-1");
    }
    leave(&broker, &device, "sensor-1");
    (broker, device)
}

#[test]
fn a_device_that_is_on_its_way_out_when_the_list_comes_keeps_nothing() {
    for registered_ones in [true, false] {
        let (broker, device) = somebody_left(registered_ones);
        let mut leaving = dial(&broker, &device, &connect(V5, "leaving").persistent());
        let before = broker.broker().hub().connected_count();
        // It says that it goes, and does not close its side.
        leaving.send(disconnect());
        while broker.broker().hub().connected_count() >= before {
            std::thread::yield_now();
        }
        list(&broker, &[&device]);
        nothing_is_left_but_the_telemetry(&broker);
        leaving.expect_closed();
    }
}

#[test]
fn a_device_that_is_on_its_way_out_with_a_good_certificate_keeps_everything() {
    let (broker, device) = somebody_left(false);
    let mut leaving = dial(&broker, &device, &connect(V5, "leaving"));
    leaving.send(disconnect());
    list(&broker, &[&issue("sensor-1")]);
    everything_is_left(&broker);
    leaving.expect_closed();
}

#[test]
fn who_is_refused_keeps_nothing_of_the_one_whose_name_it_shows() {
    let (broker, device) = somebody_left(true);
    let mut stranger = broker.anonymous().presenting(&issue("sensor-1")).open(V5).expect("a good handshake");
    while !broker.broker().directory.snapshot().iter().any(|live| live.refused) {
        std::thread::yield_now();
    }
    list(&broker, &[&device]);
    nothing_is_left_but_the_telemetry(&broker);
    stranger.send(connect(V5, "a").bytes());
    let answer = stranger.receive();
    assert!(matches!(answer, Received::ConnAck { code: NOT_AUTHORIZED, .. }), "{answer:?}");
}

#[test]
fn a_revocation_leaves_nothing_to_who_has_only_a_listed_certificate_besides() {
    for next_is_listed in [true, false] {
        let (broker, device) = somebody_left(true);
        let (next, other) = (issue("sensor-1"), issue("sensor-2"));
        broker.enrol(&next, "sensor-1");
        list(&broker, &[if next_is_listed { &next } else { &other }]);
        everything_is_left(&broker);
        broker.revoke(&device);
        if next_is_listed {
            nothing_is_left_but_the_telemetry(&broker);
        } else {
            everything_is_left(&broker);
        }
    }
}
