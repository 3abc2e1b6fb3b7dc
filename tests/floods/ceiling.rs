//! When there is no memory left, and no descriptor.

use crate::beside;
use crate::site::{Site, V5, let_in, sized};
use serde_json::json;
use signet_tests::build;
use signet_tests::received::Received;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn packets_that_never_end_take_no_more_than_there_is() {
    Site::with_devices("").survives("unfinished_packets", |site| {
        let count = sized(150, 600);
        // All but the last byte of the largest packet that may be sent.
        let packet = build::publish(V5, "devices/x/t", vec![b'x'; 260_000]).qos1(1).bytes();
        let part = &packet[..packet.len() - 1];
        let mut refused = 0;
        let mut held = Vec::new();
        for n in 0..count {
            let mut client = site.device(&format!("never-{n}")).open(V5).ok();
            let connected = client
                .as_mut()
                .is_some_and(|client| client.try_connect(&build::connect(V5, format!("never-{n}"))));
            match client.filter(|_| connected) {
                Some(mut client) => {
                    client.give_up_writing_after(Duration::from_millis(200));
                    let _ = client.try_send(part);
                    held.push(client);
                }
                None => refused += 1,
            }
        }
        json!({ "devices": count, "refused_0x89": refused, "bytes_each": part.len() })
    });
}

#[test]
fn queues_of_devices_that_are_away_fill_up_to_the_ceiling_and_what_was_acknowledged_is_delivered() {
    Site::with_devices("").survives("queues_of_absent_devices", |site| {
        let (count, payload) = (sized(20, 60), vec![b'q'; 8 * 1024]);
        for n in 0..count {
            let connect = build::connect(V5, format!("away-{n}")).persistent();
            let mut client = site.device(&format!("away-{n}")).connect(&connect, V5);
            client.subscribe(&format!("devices/away-{n}/in"), 1);
            client.send(build::disconnect());
        }
        let mut writer = site.admin().connect(&build::connect(V5, "w"), V5);
        let mut acknowledged = vec![0_usize; count];
        let mut refused = 0;
        for _ in 0..150 {
            for (n, acknowledged) in acknowledged.iter_mut().enumerate() {
                writer.send(build::publish(V5, format!("devices/away-{n}/in"), &payload).qos1(1).bytes());
                match writer.receive() {
                    Received::PubAck(ack) if ack.code == 0 => *acknowledged += 1,
                    Received::PubAck(ack) if ack.code == 0x97 => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        let total: usize = acknowledged.iter().sum();
        // Who has a session is let in although memory is short, and takes what waits.
        for (n, acknowledged) in acknowledged.into_iter().enumerate() {
            let connect = build::connect(V5, format!("away-{n}")).persistent();
            let mut client = let_in(&site.device(&format!("away-{n}")), &connect);
            for _ in 0..acknowledged {
                match client.receive() {
                    Received::Publish(publish) => client.send(build::puback(publish.packet_id)),
                    other => panic!("{other:?}"),
                }
            }
            client.expect_nothing();
        }
        json!({ "acknowledged": total, "delivered": total, "refused_0x97": refused, "bytes_each": payload.len() })
    });
}

/// The soft limit of descriptors of a process.
fn limit_descriptors(pid: u32, soft: usize) {
    let limited =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}:20000")]).status();
    assert!(limited.expect("prlimit of util-linux is there").success());
}

#[test]
fn without_a_descriptor_left_the_broker_does_not_spin_and_the_oldest_make_room() {
    let site = Site::start("", 10);
    let open = std::fs::read_dir(format!("/proc/{}/fd", site.pid())).expect("the broker runs").count();
    limit_descriptors(site.pid(), open + 20);
    let silent: Vec<_> =
        (0..100).map(|_| std::net::TcpStream::connect(site.address).expect("the kernel takes it")).collect();
    let (cpu, began) = (site.cpu(), Instant::now());
    // All places are taken by peers that say nothing. The oldest are dropped, and somebody good gets in.
    let client = site.device("good").open(V5);
    let is_in = client.is_ok_and(|mut client| client.try_connect(&build::connect(V5, "g")));
    let connected_after = began.elapsed();
    while began.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let spent = site.cpu() - cpu;
    drop(silent);
    limit_descriptors(site.pid(), 20_000);
    crate::site::tell(&json!({
        "flood": "out_of_descriptors", "cpu_ms_in_2_s": spent.as_millis() as u64,
        "good_connected": is_in, "good_connected_after_ms": connected_after.as_secs_f64() * 1000.0,
    }));
    if beside::is_asked_for() {
        return;
    }
    assert!(is_in, "somebody good gets in");
    assert!(spent < Duration::from_secs(1), "{spent:?} of processor time in two seconds");
    assert!(site.log().contains("could not be accepted"), "{}", site.log());
}
