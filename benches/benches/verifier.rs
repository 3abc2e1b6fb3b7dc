//! What the judgement of a client's chain costs: never seen, seen before, with a large revocation list in force, and refused.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rustls_pki_types::{CertificateDer, UnixTime};
use signet::tls::{ChainCache, DeviceVerifier, ListenerSources, TlsListener, TlsOptions};
use signet_certs_dev::{Authority, CrlProfile, KeyKind, Leaf, LeafProfile, Serial, Validity};
use time::OffsetDateTime;

const REVOKED: u128 = 100_000;

struct Pki {
    folder: tempfile::TempDir,
    good: Leaf,
    revoked: Leaf,
    foreign: Leaf,
}

impl Pki {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        let validity = Validity::days_from(now, 30);
        let root = Authority::root("bench root", KeyKind::P256, validity).expect("an authority");
        let issuing = root.intermediate("bench issuing", KeyKind::P256, validity, 0).expect("an authority");
        let strange = Authority::root("foreign root", KeyKind::P256, validity).expect("an authority");
        let server = issuing.issue(&LeafProfile::localhost(validity)).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("written");
        };
        write("root.pem", root.certificate_pem());
        write("server.pem", server.chain_pem());
        write("server.key", server.key_pem());
        let leaf =
            |by: &Authority, name: &str| by.issue(&LeafProfile::device(name, validity)).expect("issued");
        let (good, revoked) = (leaf(&issuing, "good"), leaf(&issuing, "revoked"));
        let mut serials: Vec<Serial> =
            (0..REVOKED).map(|n| Serial::from_bytes(&((0x11 << 120) + n).to_be_bytes())).collect();
        serials.push(revoked.serial().clone());
        for (name, by, serials) in [("root.crl", &root, &[][..]), ("issuing.crl", &issuing, &serials[..])] {
            let profile = CrlProfile::new(1, now, 30, &serials.iter().collect::<Vec<_>>());
            write(name, by.crl(&profile).expect("a list").pem());
        }
        Self { good, revoked, foreign: leaf(&strange, "foreign"), folder }
    }

    /// A verifier that remembers so many chains, with the revocation lists or without.
    fn verifier(&self, entries_max: usize, lists: bool) -> DeviceVerifier {
        let at = |name: &str| self.folder.path().join(name);
        let crl = if lists { vec![at("root.crl"), at("issuing.crl")] } else { Vec::new() };
        let sources = ListenerSources::read(&at("server.pem"), &at("server.key"), &[at("root.pem")], &crl)
            .expect("files that can be read");
        let (tls, _) = TlsListener::build(&sources, &TlsOptions::default(), None, UnixTime::now())
            .expect("a listener that can be built");
        DeviceVerifier::new(tls.trust(), Arc::new(ChainCache::new(entries_max)))
    }
}

fn chain(leaf: &Leaf) -> Vec<CertificateDer<'static>> {
    leaf.chain().into_iter().map(CertificateDer::from).collect()
}

fn judge(criterion: &mut Criterion) {
    let pki = Pki::new();
    let (good, revoked, foreign) = (chain(&pki.good), chain(&pki.revoked), chain(&pki.foreign));
    let mut group = criterion.benchmark_group("verifier");
    let cases = [
        ("never-seen", 0, false, &good, true),
        ("seen-before", ChainCache::ENTRIES_MAX, false, &good, true),
        ("never-seen/100k-revoked", 0, true, &good, true),
        ("seen-before/100k-revoked", ChainCache::ENTRIES_MAX, true, &good, true),
        ("refused/revoked", ChainCache::ENTRIES_MAX, true, &revoked, false),
        ("refused/foreign", ChainCache::ENTRIES_MAX, false, &foreign, false),
    ];
    for (name, entries_max, lists, chain, admitted) in cases {
        let verifier = pki.verifier(entries_max, lists);
        let now = UnixTime::now();
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(black_box(verifier.judge(black_box(chain), now)).is_ok(), admitted));
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
