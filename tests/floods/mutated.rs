//! Packets that were right once, with some of their bytes changed, over real mutual TLS.

use crate::site::{Site, V5, sized};
use serde_json::json;
use signet_tests::build::{self, Props, Version};

/// What may grow.
const GROWTH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A small generator of numbers that does the same every time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap_or(0) % below
    }
}

fn seeds(version: Version) -> Vec<Vec<u8>> {
    let publish = |qos| build::publish(version, "devices/fuzz/t", "payload").qos(qos, 7);
    let mut seeds = vec![
        publish(0).bytes(),
        publish(1).bytes(),
        publish(2).retain().bytes(),
        build::subscribe(
            version,
            8,
            &[build::sub("devices/fuzz/#", 2), build::sub("$share/g/devices/fuzz/+", 1)],
        ),
        build::unsubscribe(version, 9, &["devices/fuzz/#"]),
        build::puback(7),
        build::pubrec(7),
        build::pubrel(7),
        build::pubcomp(7),
        build::pingreq(),
        build::connect(version, "again").bytes(),
    ];
    if version == V5 {
        let full =
            Props::new().user("a", "b").u32(2, 60).text(3, "text/plain").text(8, "devices/fuzz/r").u8(1, 1);
        seeds.push(build::publish(version, "devices/fuzz/t", "p").with(|_| full).qos1(7).bytes());
        seeds.push(build::ack_with_code(0x40, 7, 0x97));
        seeds.push(build::disconnect_with(4, &Props::new().u32(17, 10)));
        seeds.push(build::auth(0x18, &Props::new().text(21, "x")));
    }
    seeds
}

/// Changes, removes, repeats or adds some bytes.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.next(4) {
        let place = numbers.next(bytes.len().max(1));
        match numbers.next(5) {
            0 => bytes.insert(place.min(bytes.len()), numbers.next(256) as u8),
            1 if bytes.len() > 1 => drop(bytes.remove(place)),
            2 => bytes.truncate(place.max(1)),
            3 => bytes.extend_from_within(place.min(bytes.len())..),
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << numbers.next(8);
                }
            }
        }
    }
}

#[test]
fn mutated_packets_neither_crash_the_broker_nor_fill_it() {
    const SEED: u64 = 0x5eed_0006;
    let site = Site::start("connects-per-principal-per-second = 0", sized(10, 100));
    site.survives("mutated_packets", |site| {
        let count = sized(2_000, 100_000);
        let mut numbers = Numbers(SEED);
        let (mut connections, mut before, mut sent) = (0, 0, 0);
        let shakes = site.device("fuzz");
        while sent < count {
            let version = if numbers.next(2) == 0 { V5 } else { Version::V311 };
            let Ok(mut client) = shakes.open(version) else { continue };
            connections += 1;
            if !client.try_connect(&build::connect(version, "f")) {
                continue;
            }
            let seeds = seeds(version);
            for _ in 0..50 {
                let mut packet = seeds[numbers.next(seeds.len())].clone();
                mutate(&mut packet, &mut numbers);
                sent += 1;
                // The broker closes at the first that breaks a rule; what comes behind it is not looked at.
                if client.try_send(&packet).is_err() || !client.is_alive() {
                    break;
                }
            }
            // What was grown by the first tenth is the working set of it.
            if before == 0 && sent >= count / 10 {
                before = site.resident();
            }
        }
        let grown = site.resident().saturating_sub(before);
        assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more are resident");
        json!({ "packets": sent, "connections": connections, "seed": SEED, "resident_grown": grown })
    });
}
