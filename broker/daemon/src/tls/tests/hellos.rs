//! The first bytes of a connection.

use proptest::prelude::*;

use super::support::{BOTH, TLS13, World};
use crate::tls::hello::{ClientHello, HELLO_BYTES_MAX, HelloTap, NotTls, Progress, parse};

/// A ClientHello in one record.
fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    record(&message(extensions))
}

fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0x13, 0x01, 0xc0, 0x2b, 1, 0]);
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, value)| [&kind.to_be_bytes()[..], &length16(value), value].concat())
        .collect();
    body.extend(length16(&list));
    body.extend(list);
    [&[1, 0][..], &length16(&body), &body].concat()
}

fn record(content: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &length16(content), content].concat()
}

fn length16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_be_bytes()
}

#[track_caller]
fn complete(bytes: &[u8]) -> ClientHello {
    match parse(bytes) {
        Progress::Complete(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_size_of_max_fragment_length_is_read_and_others_are_not() {
    let asked = |code: u8| complete(&hello(&[(1, &[code])])).max_fragment_length;
    let asked: Vec<_> = (0..=6).map(asked).collect();
    assert_eq!(asked, [None, Some(512), Some(1024), Some(2048), Some(4096), None, None]);
}

#[test]
fn record_size_limit_counts_the_content_type_and_the_smaller_limit_holds() {
    let limit = |extensions: &[(u16, &[u8])]| complete(&hello(extensions)).fragment_bytes_max();
    assert_eq!(limit(&[]), None);
    assert_eq!(limit(&[(28, &[2, 1])]), Some(512));
    assert_eq!(limit(&[(1, &[2]), (28, &[2, 1])]), Some(512));
    assert_eq!(limit(&[(1, &[1]), (28, &[0x40, 1])]), Some(512));
    assert_eq!(limit(&[(28, &[0, 0])]), Some(0));
}

#[test]
fn names_and_versions_are_read() {
    let sni = b"\0\x0e\0\0\x0bmqtt.server".as_slice();
    let alpn = b"\0\x08\x04mqtt\x02h2".as_slice();
    let hello = complete(&hello(&[(0, sni), (16, alpn), (43, &[4, 0x03, 0x04, 0x03, 0x03])]));
    assert_eq!(hello.sni.as_deref(), Some("mqtt.server"));
    assert_eq!(hello.alpn, [b"mqtt".to_vec(), b"h2".to_vec()]);
    assert_eq!(hello.versions, [0x0304, 0x0303]);
    assert_eq!(hello.newest_version(), "TLS 1.3");
}

#[test]
fn an_address_as_server_name_is_tolerated_and_an_unprintable_one_is_left_out() {
    let with = |name: &[u8]| {
        let list = [&[0][..], &length16(name), name].concat();
        complete(&hello(&[(0, &[&length16(&list)[..], &list].concat())])).sni
    };
    assert_eq!(with(b"192.168.1.10").as_deref(), Some("192.168.1.10"));
    assert_eq!(with(b"a\nb"), None);
    assert_eq!(with(b"a b"), None);
    assert_eq!(with(&[b'a'; 256]), None);
}

#[test]
fn a_hello_in_many_records_and_many_reads_is_joined() {
    let message = message(&[(1, &[1])]);
    for size in [1, 3, 4, 5, 20] {
        let bytes: Vec<u8> = message.chunks(size).flat_map(record).collect();
        assert_eq!(complete(&bytes).max_fragment_length, Some(512), "records of {size}");
        let mut tap = HelloTap::default();
        for (at, byte) in bytes.iter().enumerate() {
            assert!(tap.hello().is_none(), "complete after {at} of {} bytes", bytes.len());
            tap.push(&[*byte]);
        }
        assert_eq!(tap.hello().unwrap().max_fragment_length, Some(512));
    }
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let mut bytes = hello(&[]);
    bytes.extend([20, 3, 3, 0, 1, 1]);
    complete(&bytes);
}

#[test]
fn other_protocols_are_recognised_by_their_first_byte() {
    let connect = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
    assert_eq!(parse(connect), Progress::NotTls(NotTls::Mqtt));
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Progress::NotTls(NotTls::Http));
    assert_eq!(parse(b"SSH-2.0-x"), Progress::NotTls(NotTls::Http), "a line of text, anyway");
    assert_eq!(parse(&[0x80, 0x2e, 1]), Progress::NotTls(NotTls::Other));
    assert_eq!(parse(&[]), Progress::More);
}

#[test]
fn lengths_that_lie_are_unreadable_or_wait_for_more_and_never_panic() {
    let good = hello(&[(0, b"\0\x0e\0\0\x0bmqtt.server"), (1, &[1])]);
    for cut in 0..good.len() {
        assert_eq!(parse(&good[..cut]), Progress::More, "cut at {cut}");
    }
    // A server name that claims to be longer than its extension.
    assert_eq!(parse(&hello(&[(0, b"\0\x0e\0\xff\xffmqtt.server")])), Progress::Unreadable);
    assert_eq!(parse(&hello(&[(28, &[1])])), Progress::Unreadable);
    assert_eq!(parse(&hello(&[(43, &[3, 3, 4, 3])])), Progress::Unreadable);
    assert_eq!(parse(&record(&[2, 0, 0, 1, 0])), Progress::Unreadable, "a ServerHello");
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Progress::Unreadable, "an empty record");
    assert_eq!(parse(&[22, 2, 0, 0, 1, 1]), Progress::Unreadable, "SSL 2");
    assert_eq!(parse(&[22, 3, 1, 0xff, 0xff]), Progress::Unreadable, "a record of 64 KiB");
    assert_eq!(parse(&record(&[1, 1, 0, 0])), Progress::Unreadable, "a hello of 64 KiB");
}

#[test]
fn a_hello_that_never_ends_is_given_up_at_its_bound() {
    let mut tap = HelloTap::default();
    tap.push(&record(&[1, 0, 0x3f, 0xff]));
    for _ in 0..HELLO_BYTES_MAX / 1000 {
        assert_eq!(tap.progress(), &Progress::More);
        tap.push(&record(&[0; 995]));
    }
    assert_eq!(tap.push(&record(&[0; 995])), &Progress::Unreadable);
}

#[test]
fn fingerprints_are_equal_for_equal_programs_and_not_for_others() {
    let print = |extensions: &[(u16, &[u8])]| complete(&hello(extensions)).fingerprint;
    let one = print(&[(10, &[0, 2, 0, 29]), (13, &[0, 2, 4, 3]), (0, b"\0\x06\0\0\x03one")]);
    let same = print(&[(0x2a2a, &[]), (13, &[0, 2, 4, 3]), (10, &[0, 2, 0, 29]), (0, b"\0\x06\0\0\x03two")]);
    assert_eq!(one, same, "order, GREASE and names do not count");
    assert_ne!(one, print(&[(10, &[0, 2, 0, 23]), (13, &[0, 2, 4, 3]), (0, b"\0\x06\0\0\x03one")]));
    assert_ne!(one, print(&[(10, &[0, 2, 0, 29]), (13, &[0, 2, 4, 3])]));
}

#[test]
fn real_hellos_are_read() {
    let world = World::new();
    let device = world.device("d");
    for version in BOTH {
        let outcome = super::support::handshake(&world.listener(), &world.client(version, &device));
        let hello = outcome.hello.expect("rustls' own hello is read");
        assert_eq!(hello.sni.as_deref(), Some("localhost"));
        let expected = if std::ptr::eq(version, TLS13) { "TLS 1.3" } else { "TLS 1.2" };
        assert_eq!(hello.newest_version(), expected);
        assert_eq!(hello.fragment_bytes_max(), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _progress = parse(&bytes);
        let _progress = parse(&record(&bytes));
    }

    #[test]
    fn no_change_of_a_good_hello_makes_it_panic(at in 0_usize..90, to in any::<u8>()) {
        let mut bytes = hello(&[(0, b"\0\x0e\0\0\x0bmqtt.server"), (1, &[1]), (43, &[2, 3, 4]), (28, &[2, 1])]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        let _progress = parse(&bytes);
    }
}
