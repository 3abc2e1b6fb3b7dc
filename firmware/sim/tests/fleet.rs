//! A fleet with faults against the broker itself, over mutual TLS.

mod house;
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use house::{House, go, write};
use server::Files;
use signet::cli::args::Command;
use signet::cli::ota::{Report, Stage, publish};
use signet_certs_dev::MemoryPki;
use signet_device_core::topic::Format;
use signet_sim::faults::Level;
use signet_sim::fleet::{Plan, Update};
use signet_sim::release::{Kind, Releases, image};
use signet_sim::unit::Begin;
use time::OffsetDateTime;

#[test]
fn twenty_devices_with_faults_are_enrolled_and_rotate_through_a_restart_of_the_broker() {
    let house = House::new();
    let plan = Plan { restart: Some(house.restart()), ..house.plan(20, Level::Some) };
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    assert_eq!((outcome.online, outcome.rotated), (20, Some(20)), "{outcome}");
    assert_eq!(house.things(), 20, "one thing for each device");
    assert_eq!(outcome.happened.broker_restarts, 2, "{outcome}");
}

#[test]
fn devices_that_speak_cbor_are_enrolled_without_a_single_alarm() {
    let house = House::new();
    let mut plan = house.plan(5, Level::None);
    plan.given.format = Format::Cbor;
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    let happened = &outcome.happened;
    assert_eq!((happened.alarms, happened.refused, happened.rejected), (0, 0, 0), "{outcome}");
    // The claim, then itself, then itself with the next certificate.
    assert_eq!(happened.connections, 15, "{outcome}");
}

#[test]
fn a_fleet_with_the_wrong_root_is_not_enrolled_and_the_verdict_says_so() {
    let house = House::new();
    let other = MemoryPki::new(OffsetDateTime::now_utc()).expect("a PKI");
    write(&house.path("root-ca.crt"), &other.root.certificate_pem());
    let plan = Plan { rotate: false, timeout: Duration::from_secs(3), ..house.plan(2, Level::None) };
    let outcome = go(&plan);
    assert!(!outcome.ok && outcome.online == 0 && outcome.lost == 2, "{outcome}");
    assert!(outcome.problems.iter().any(|problem| problem.contains("ServerUntrusted")), "{outcome}");
    assert_eq!(house.things(), 0);
}

#[test]
fn devices_begin_with_a_token_each_and_rotate_like_all_others() {
    let house = House::new();
    let mut plan = house.plan(6, Level::Some);
    // A token is good for one answer. What a power cut makes of one is not this test's question.
    plan.level = Level::None;
    let names = (0..6).map(|number| format!("t{number:05}"));
    let tokens: BTreeMap<_, _> = names.map(|name| (name.clone(), house.token(&name).into())).collect();
    plan.given.begin = Begin::Tokens(house.token_url(), tokens);
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    assert_eq!((outcome.online, outcome.rotated, house.things()), (6, Some(6), 6), "{outcome}");
    assert_eq!((outcome.happened.alarms, outcome.happened.refused), (0, 0), "{outcome}");
    // Itself, then itself with the next certificate: no claim was shown.
    assert_eq!(outcome.happened.connections, 12, "{outcome}");
}

#[test]
fn a_fleet_does_not_begin_while_a_device_has_no_token() {
    let house = House::new();
    let mut plan = house.plan(2, Level::None);
    let tokens = BTreeMap::from([("t00000".to_owned(), house.token("t00000").into())]);
    plan.given.begin = Begin::Tokens(house.token_url(), tokens);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(signet_sim::fleet::run(&plan, indicatif::ProgressBar::hidden()));
    assert!(error.expect_err("no token").to_string().contains("t00001"));
}

/// What an operator gives to devices.
struct Campaign {
    house: std::sync::Arc<House>,
    releases: Releases,
}

impl Campaign {
    fn new(house: &std::sync::Arc<House>, plan: &mut Plan) -> Self {
        let releases = Releases::of(plan.given.seed);
        plan.given.update_key = Some(releases.public_key());
        plan.rotate = false;
        house.signet(&["operator", "add", "operations", "--key", "--out", "out"]);
        Self { house: std::sync::Arc::clone(house), releases }
    }

    fn write(&self, image: &[u8], manifest: &str) {
        std::fs::write(self.house.path("image.bin"), image).expect("written");
        write(&self.house.path("manifest.json"), manifest);
    }

    /// `signet ota publish`.
    fn publish(&self, devices: &[String]) -> Report {
        let broker = format!("localhost:{}", self.house.address.port());
        let mut line =
            vec!["signet", "ota", "publish", "--image", "image.bin", "--manifest", "manifest.json"];
        line.extend(["--broker", &broker, "--ca", "root-ca.crt", "--json", "--device-within", "3m"]);
        line.extend(["--cert", "out/operations/device-chain.crt", "--key", "out/operations/device.key"]);
        line.extend(devices.iter().map(String::as_str));
        let Command::Ota(command) = self.house.cli(&line) else { panic!("not an update") };
        publish(&command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn refused(&self, devices: &[String], why: &str) {
        let report = self.publish(devices);
        assert_eq!((report.confirmed, report.failed), (0, devices.len()), "{why}: {report:?}");
        for verdict in report.devices.values() {
            assert!(
                matches!(&verdict.stage, Stage::Failed { why: said } if said.contains(why)),
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn images_that_are_not_for_a_device_are_refused_and_one_that_crashes_is_taken_back_before_a_good_one_stays() {
    let house = std::sync::Arc::new(House::new());
    let mut plan = house.plan(4, Level::None);
    let campaign = Campaign::new(&house, &mut plan);
    plan.update = Some(Update::new("1.0.0", move |devices| {
        let ours = &campaign.releases;
        let next = image("1.0.0", Kind::Good);
        campaign.write(&next, &Releases::of(99).manifest(&next, "1.0.0", 1, None));
        campaign.refused(devices, "signature is wrong");
        campaign.write(&next, &ours.manifest(&next, "0.0.9", 1, None));
        campaign.refused(devices, "not newer");
        let other = ours.manifest(&next, "1.0.0", 1, None).replace("host", "esp32c6");
        campaign.write(&next, &other);
        campaign.refused(devices, "signature is wrong");
        let crashing = image("0.9.0", Kind::Crashing);
        campaign.write(&crashing, &ours.manifest(&crashing, "0.9.0", 1, None));
        campaign.refused(&devices[..1], "the old one is back");
        campaign.write(&next, &ours.manifest(&next, "1.0.0", 1, None));
        let report = campaign.publish(devices);
        assert_eq!((report.confirmed, report.failed), (4, 0), "{report:?}");
        // Whoever runs it already counts, and is not told to fetch it.
        let again = campaign.publish(devices);
        assert_eq!((again.confirmed, again.failed), (4, 0), "{again:?}");
        Ok(())
    }));
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    assert_eq!(outcome.updated, Some(4), "{outcome}");
    let happened = &outcome.happened;
    // The one that crashed says so when it gives the image up, and again when the old one runs.
    assert_eq!((happened.updates, happened.reverts), (4, 2), "{outcome}");
    assert!(happened.images_refused >= 12, "{outcome}");
}

#[test]
fn a_fleet_with_faults_fetches_its_update_from_an_address_that_the_manifest_signs() {
    let house = std::sync::Arc::new(House::new());
    let mut plan = house.plan(6, Level::Some);
    plan.faults_for = Duration::ZERO;
    let campaign = Campaign::new(&house, &mut plan);
    let next = image("1.0.0", Kind::Good);
    let files = Files::serve(&house.path("server-chain.crt"), &house.path("server.key"), next.clone());
    let url = files.url();
    plan.update = Some(Update::new("1.0.0", move |devices| {
        campaign.write(&next, &campaign.releases.manifest(&next, "1.0.0", 1, Some(&url)));
        let report = campaign.publish(devices);
        assert_eq!((report.confirmed, report.failed), (6, 0), "{report:?}");
        Ok(())
    }));
    let outcome = go(&plan);
    assert!(outcome.ok, "{outcome}");
    assert_eq!(outcome.updated, Some(6), "{outcome}");
    let (whole, from_the_middle) = files.asked();
    assert!(whole >= 6, "{whole}");
    assert!(from_the_middle >= 1, "the first answer breaks off, and goes on where it stopped");
}
