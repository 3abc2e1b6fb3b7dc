//! Devices with a good certificate and bad firmware.

use crate::beside;
use crate::site::{Site, V5, ceiling_bytes, let_in, sized};
use serde_json::json;
use signet_tests::build::{self, Props, Version};
use signet_tests::raw_client::RawClient;
use signet_tests::received::Received;
use std::time::{Duration, Instant};

/// Quota exceeded.
const QUOTA: u8 = 0x97;

/// The client id is one that nobody else has: in Mosquitto client ids of all names are one.
fn connected(site: &Site, name: &str, client_id: &str) -> RawClient {
    let_in(&site.device(name), &build::connect(V5, format!("{name}-{client_id}")))
}

/// The code of the SUBACK that comes next.
fn suback(client: &mut RawClient) -> Vec<u8> {
    loop {
        match client.receive() {
            Received::SubAck { codes, .. } => return codes,
            Received::Publish(_) => {}
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }
}

#[test]
fn topics_of_tens_of_thousands_of_levels_are_refused() {
    Site::with_devices("").survives("topic_depth", |site| {
        let (count, cpu) = (sized(20, 1000), site.cpu());
        let deep = format!("devices/deep/{}", "a/".repeat(32_000));
        for _ in 0..count {
            let mut client = connected(site, "deep", "d");
            client.send(build::subscribe(V5, 1, &[build::sub(&deep, 1)]));
            if beside::is_asked_for() {
                let _ = client.receive_or_end();
                let mut another = connected(site, "deep", "p");
                another.send(build::publish(V5, &deep, "x").qos1(2).bytes());
                let _ = another.receive_or_end();
                continue;
            }
            assert_eq!(suback(&mut client), [0x8f]);
            client.send(build::publish(V5, &deep, "x").qos1(2).bytes());
            client.expect_closed_with(0x90);
        }
        json!({ "levels": 32_002, "packets": 2 * count, "cpu_us_each": (site.cpu() - cpu).as_micros() as f64 / (2 * count) as f64 })
    });
}

#[test]
fn packets_full_of_user_properties_are_refused() {
    Site::with_devices("").survives("user_properties", |site| {
        let (count, cpu) = (sized(20, 1000), site.cpu());
        let many = (0..20_000).fold(Props::new(), |props, n| props.user("k", format!("{n}")));
        let mut closed = 0;
        let bomb = build::publish(V5, "devices/props/t", "x").with(|_| many).qos1(1).bytes();
        assert!(bomb.len() < 256 * 1024, "it is not refused for its size");
        for _ in 0..count {
            let mut client = connected(site, "props", "p");
            client.send(&bomb);
            match client.receive_or_end() {
                None | Some(Received::Disconnect { .. }) => closed += 1,
                Some(other) => assert!(beside::is_asked_for(), "{other:?}"),
            }
        }
        json!({ "properties": 20_000, "packets": count, "closed": closed, "cpu_us_each": (site.cpu() - cpu).as_micros() as f64 / count as f64 })
    });
}

#[test]
fn one_device_has_as_many_subscriptions_as_it_may_and_not_one_more() {
    Site::with_devices("").survives("subscriptions", |site| {
        let sessions = sized(3, 12);
        let (mut granted, mut refused) = (0, 0);
        let mut held = Vec::new();
        for session in 0..sessions {
            // Where memory is tight whoever has so many is not let in with one more session.
            let mut client = site.device("greedy").open(V5).expect("it may shake hands");
            if !client.try_connect(&build::connect(V5, format!("greedy-s{session}"))) {
                refused += 2000;
                continue;
            }
            for batch in 0..10 {
                let filters: Vec<_> = (0..1000 / 5)
                    .map(|n| build::sub(format!("devices/greedy/{session}/{batch}/{n}"), 1))
                    .collect();
                client.send(build::subscribe(V5, 1, &filters));
                for code in suback(&mut client) {
                    match code {
                        1 => granted += 1,
                        QUOTA => refused += 1,
                        other => panic!("{other:#04x}"),
                    }
                }
            }
            held.push(client);
        }
        if !beside::is_asked_for() {
            let most = (sessions * 1000).min(10_000);
            assert!(granted <= most, "{granted}: 1000 for a session, 10000 for a name");
            let share = usize::try_from(ceiling_bytes()).expect("64 bits") / 64 / 512;
            assert!(granted >= share.min(most), "{granted}: {share} are the share of a name");
        }
        assert_eq!(granted + refused, sessions * 2000);
        json!({ "asked": sessions * 2000, "granted": granted, "refused_0x97": refused })
    });
}

#[test]
fn a_device_that_retains_without_end_is_refused_in_time() {
    Site::with_devices("").survives("retained", |site| {
        let devices = sized(2, 8);
        let (mut kept, mut refused) = (0, 0);
        let payload = vec![b'x'; 16 * 1024];
        for device in 0..devices {
            let name = format!("hoarder-{device}");
            let mut client = connected(site, &name, "h");
            let topic = |n: usize| format!("devices/{name}/{n}");
            let mut mine = Vec::new();
            for n in 0..1500 {
                client.send(build::publish(V5, topic(n), &payload).qos1(1).retain().bytes());
                match client.receive() {
                    Received::PubAck(ack) if ack.code & !0x10 == 0 => mine.push(n),
                    Received::PubAck(ack) if ack.code == QUOTA => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
            kept += mine.len();
            let share = ceiling_bytes() / 16;
            let kept_bytes = mine.len() as u64 * payload.len() as u64;
            assert!(kept_bytes <= share || beside::is_asked_for(), "{kept_bytes} of {share} bytes");
            // Clearing is taken however short memory is.
            for n in mine {
                client.send(build::publish(V5, topic(n), "").qos1(1).retain().bytes());
                assert!(matches!(client.receive(), Received::PubAck(ack) if ack.code & !0x10 == 0));
            }
        }
        assert!(refused > 0 || beside::is_asked_for(), "24 MiB are more than a sixteenth of the ceiling");
        json!({ "asked": devices * 1500, "kept": kept, "refused_0x97": refused })
    });
}

#[test]
fn qos_2_that_is_never_released_ends_the_connection() {
    Site::with_devices("").survives("qos2_never_released", |site| {
        let mut taken = [0, 0];
        for round in 0..sized(3, 50) {
            for (place, version) in [Version::V5, Version::V311].into_iter().enumerate() {
                let connect = build::connect(version, format!("q{round}"));
                let mut client = site.device("never").connect(&connect, version);
                for id in 1..=2000_u16 {
                    client.send(build::publish(version, "devices/never/t", "x").qos2(id).bytes());
                    match client.receive_or_end() {
                        Some(Received::PubRec(_)) => taken[place] += 1,
                        None | Some(Received::Disconnect { code: 0x93, .. }) => break,
                        Some(other) => panic!("{other:?}"),
                    }
                }
            }
        }
        let rounds = sized(3, 50);
        assert!(taken == [100 * rounds, 1024 * rounds] || beside::is_asked_for(), "{taken:?}");
        json!({ "connections": 2 * rounds, "taken_v5_each": taken[0] / rounds, "taken_v311_each": taken[1] / rounds })
    });
}

#[test]
fn consumers_that_do_not_read_are_closed_and_those_that_do_are_served() {
    slow_consumers("slow_consumers", V5);
}

/// It cannot be told that something is refused, so it is not read until there is memory, and is not closed.
#[test]
fn a_3_1_1_writer_beside_consumers_that_do_not_read_goes_on_when_they_are_closed() {
    slow_consumers("slow_consumers_v311", Version::V311);
}

fn slow_consumers(name: &str, version: Version) {
    Site::with_devices("").survives(name, |site| {
        let consumers = sized(20, 200);
        let slow: Vec<_> = (0..consumers)
            .map(|n| {
                let mut client = connected(site, &format!("slow-{n}"), "s");
                client.subscribe("shared/#", u8::from(n % 2 == 0));
                client
            })
            .collect();
        let mut writer = site.device("writer").connect(&build::connect(version, "writer-w"), version);
        let payload = vec![b'x'; 32 * 1024];
        let (mut taken, mut refused) = (0, 0);
        let began = Instant::now();
        for n in 0..sized(200, 2000) {
            let qos1 = n % 2 == 0;
            let publish = build::publish(version, "shared/flood", &payload);
            writer.send(if qos1 { publish.qos1(1).bytes() } else { publish.bytes() });
            if qos1 {
                match writer.receive() {
                    Received::PubAck(ack) if ack.code & !0x10 == 0 => taken += 1,
                    Received::PubAck(ack) if ack.code == QUOTA => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        drop(slow);
        json!({
            "consumers": consumers, "bytes_for_each": payload.len() * sized(200, 2000),
            "qos1_taken": taken, "qos1_refused_0x97": refused, "publishing_s": began.elapsed().as_secs_f64(),
        })
    });
}

#[test]
fn a_storm_of_connects_under_one_client_id_takes_only_what_one_name_may() {
    Site::with_devices("").survives("connect_storm", |site| {
        let storm = site.device("storm");
        let until = Instant::now() + Duration::from_secs(sized(3, 20) as u64);
        let run = || {
            let (mut accepted, mut refused) = (0_usize, 0_usize);
            while Instant::now() < until {
                let Ok(mut client) = storm.open(V5) else { continue };
                if client.try_connect(&build::connect(V5, "same")) { accepted += 1 } else { refused += 1 }
            }
            (accepted, refused)
        };
        let counts: Vec<_> = std::thread::scope(|scope| {
            let hands: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            hands.into_iter().map(|hand| hand.join().expect("it storms")).collect()
        });
        let accepted: usize = counts.iter().map(|(accepted, _)| accepted).sum();
        let refused: usize = counts.iter().map(|(_, refused)| refused).sum();
        let seconds = sized(3, 20);
        assert!(accepted <= 100 + 50 * (seconds + 1) || beside::is_asked_for(), "{accepted} in {seconds} s");
        json!({ "accepted": accepted, "refused_0x9f_or_taken_over": refused, "allowed_per_second": 50, "seconds": seconds })
    });
}
