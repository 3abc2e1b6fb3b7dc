//! What it costs to read a name from a certificate.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use signet_certs_dev::{Authority, KeyKind, LeafProfile, SubjectAltName, Validity};
use signet_identity::{CertificateId, IdentitySource, NameRule, describe, identify};
use time::OffsetDateTime;

fn names(criterion: &mut Criterion) {
    let validity = Validity::days_from(OffsetDateTime::now_utc(), 30);
    let root = Authority::root("bench root", KeyKind::P256, validity).expect("an authority");
    let mut profile = LeafProfile::device("sensor-0000001", validity);
    profile.alt_names.push(SubjectAltName::Dns("sensor-0000001".to_owned()));
    let leaf = root.issue(&profile).expect("a certificate");
    let der = leaf.certificate();
    let rule = NameRule::default();
    let mut group = criterion.benchmark_group("identity");
    let sources = [
        ("cn", IdentitySource::Cn),
        ("san-dns", IdentitySource::SanDns),
        ("fingerprint", IdentitySource::Fingerprint),
    ];
    for (name, source) in sources {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(identify(black_box(der), source, &rule)).expect("a name"));
        });
    }
    group.bench_function("certificate-id", |bencher| {
        bencher.iter(|| black_box(CertificateId::of(black_box(der))));
    });
    group.bench_function("describe", |bencher| bencher.iter(|| black_box(describe(black_box(der)))));
    group.finish();
}

criterion_group!(benches, names);
criterion_main!(benches);
