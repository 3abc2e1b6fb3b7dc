//! Peers that connect and do not say who they are.

use crate::beside;
use crate::site::{Site, V5, address, sized};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Threads that open connections.
const HANDS: usize = 16;

/// Opens `count` peers with `open`, several at once; how many were let in so far.
fn crowd<T: Send>(count: usize, open: impl Fn(usize) -> Option<T> + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let open = &open;
                scope.spawn(move || (hand..count).step_by(HANDS).filter_map(open).collect::<Vec<_>>())
            })
            .collect();
        hands.into_iter().flat_map(|hand| hand.join().expect("the peers connect")).collect()
    })
}

fn dial(to: SocketAddr, n: usize) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(address(n % 200), 0).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5)).ok()?;
    Some(socket.into())
}

/// No peer may be there longer. Mosquitto has 90 s for a CONNECT and none for TLS; more is not waited for.
fn patience() -> Duration {
    Duration::from_secs(if beside::is_asked_for() { 100 } else { 40 })
}

/// Waits until the broker holds no peer any more that has not said who it is; the most that it ever held, and how long the
/// last one was there.
fn all_are_dropped(site: &Site, peers: usize, began: Instant) -> Value {
    let mut most = 0;
    let until = Instant::now() + patience();
    loop {
        let half_open = site.half_open();
        most = most.max(half_open);
        // Somebody good may be on its way in.
        if half_open <= 2 {
            return json!({ "peers": peers, "half_open_max_seen": most, "all_dropped_after_s": began.elapsed().as_secs_f64() });
        }
        if Instant::now() > until {
            assert!(beside::is_asked_for(), "{half_open} peers are still there");
            return json!({ "peers": peers, "half_open_max_seen": most, "still_there_after_100_s": half_open });
        }
    }
}

fn count() -> usize {
    sized(400, 5000)
}

#[test]
fn peers_that_only_connect_are_dropped_and_harm_nobody() {
    Site::with_devices("").survives("half_open_tcp", |site| {
        let began = Instant::now();
        let peers = crowd(count(), |n| dial(site.address, n));
        all_are_dropped(site, peers.len(), began)
    });
}

#[test]
fn peers_that_stop_in_the_middle_of_the_handshake_are_dropped_and_harm_nobody() {
    Site::with_devices("").survives("half_open_handshake", |site| {
        let began = Instant::now();
        let peers = crowd(count(), |n| site.stranger().from_address(address(n % 200)).open_half().ok());
        all_are_dropped(site, peers.len(), began)
    });
}

#[test]
fn peers_that_never_say_connect_are_dropped_and_harm_nobody() {
    Site::with_devices("").survives("half_open_without_connect", |site| {
        let began = Instant::now();
        let silent = site.device("silent");
        let peers = crowd(count(), |n| silent.clone().from_address(address(n % 200)).open(V5).ok());
        all_are_dropped(site, peers.len(), began)
    });
}

#[test]
fn peers_that_send_a_byte_a_second_are_dropped_and_harm_nobody() {
    // The beginning of a ClientHello that never ends.
    const HELLO: [u8; 16] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5];
    Site::with_devices("").survives("half_open_byte_a_second", |site| {
        let began = Instant::now();
        let mut peers = crowd(count(), |n| dial(site.address, n));
        let opened = peers.len();
        for byte in HELLO {
            peers.retain_mut(|peer| peer.write_all(&[byte]).is_ok());
            if peers.is_empty() {
                break;
            }
            std::thread::park_timeout(Duration::from_secs(1));
        }
        all_are_dropped(site, opened, began)
    });
}
