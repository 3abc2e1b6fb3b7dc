//! Peers that the broker does not trust, and certificates that are made to cost.

use crate::site::{Site, V5, address, sized};
use serde_json::json;
use signet_certs_dev::{Authority, KeyKind, LeafProfile, SubjectAltName, Validity};
use signet_tests::raw_client::Handshake;
use signet_tests::test_broker::certificate;
use std::time::Instant;
use time::OffsetDateTime;

const HANDS: usize = 8;

/// `count` handshakes, each of which must be refused.
fn all_refused(count: usize, shake: impl Fn(usize) -> Handshake + Sync) {
    std::thread::scope(|scope| {
        for hand in 0..HANDS {
            let shake = &shake;
            scope.spawn(move || {
                for n in (hand..count).step_by(HANDS) {
                    let _ = shake(n).expect_refused(V5);
                }
            });
        }
    });
}

#[test]
fn a_flood_of_handshakes_with_certificates_that_nobody_trusts_is_refused() {
    Site::with_devices("").survives("handshakes_of_strangers", |site| {
        let (count, began, cpu) = (sized(200, 5000), Instant::now(), site.cpu());
        let foreign = site.stranger().presenting(certificate("foreign-ca"));
        all_refused(count, |n| foreign.clone().from_address(address(n % 200)));
        let spent = site.cpu() - cpu;
        json!({
            "handshakes": count, "per_second": count as f64 / began.elapsed().as_secs_f64(),
            "cpu_us_each": spent.as_micros() as f64 / count as f64,
        })
    });
}

#[test]
fn certificates_that_are_made_to_cost_are_refused_before_they_do() {
    let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
    let device = LeafProfile::device("bomb", validity);
    // As many authorities, one above the other, as the chain of somebody else would never have.
    let mut authority = Authority::root("Bomb", KeyKind::P256, validity).expect("an authority");
    let root = authority.intermediate("Bomb 0", KeyKind::P256, validity, 200).expect("an authority");
    authority = root;
    for n in 1..40_u8 {
        let name = format!("Bomb {n}");
        authority = authority.intermediate(&name, KeyKind::P256, validity, 200 - n).expect("an authority");
    }
    let long = authority.issue(&device).expect("a certificate");
    let mut names = device.clone();
    names.alt_names = (0..3000).map(|n| SubjectAltName::Dns(format!("name-{n}.example.org"))).collect();
    let many_names = signet_tests::test_broker::issue_as(&names);
    let big_key = signet_tests::test_broker::issue_for_public_key(&device, &rsa(16_384));
    Site::with_devices("").survives("certificate_bombs", |site| {
        let (count, cpu) = (sized(20, 500), site.cpu());
        let key = many_names.key().to_vec();
        let bombs = [
            ("chain_of_41", site.stranger().presenting(&long)),
            ("names_3000", site.stranger().presenting(&many_names)),
            ("rsa_16384", site.stranger().presenting_bare(big_key.certificate(), &key)),
        ];
        let mut figures = json!({ "handshakes_each": count });
        let mut before = cpu;
        for (name, bomb) in &bombs {
            all_refused(count, |n| bomb.clone().from_address(address(n % 200)));
            let now = site.cpu();
            figures[*name] = json!({ "cpu_us_each": (now - before).as_micros() as f64 / count as f64 });
            before = now;
        }
        figures
    });
}

/// The SubjectPublicKeyInfo of an RSA key of so many bits, to which nobody has the private key.
fn rsa(bits: usize) -> Vec<u8> {
    let der = |tag: u8, content: &[u8]| {
        let [high, low] = u16::try_from(content.len()).expect("it is short").to_be_bytes();
        [&[tag, 0x82, high, low], content].concat()
    };
    let modulus = [&[0][..], &vec![0xa7; bits / 8]].concat();
    let key = der(0x30, &[der(0x02, &modulus), vec![0x02, 0x03, 0x01, 0x00, 0x01]].concat());
    let algorithm =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bit_string = der(0x03, &[&[0][..], &key].concat());
    der(0x30, &[&algorithm[..], &bit_string].concat())
}
