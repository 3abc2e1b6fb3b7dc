//! The sensor on the host: core, agent and Mbed TLS, against the real broker. `SIGNET_BIN` says which.

mod support;

use std::rc::Rc;

use signet_device_core::{Event, Rung};
use support::{Running, Shown, device, mbed_tls};

#[tokio::test]
async fn a_device_on_the_host_enrols_with_mbed_tls_and_trusts_neither_another_root_nor_another_name() {
    let (broker, tls) = (Running::start(), mbed_tls());
    let until = async |factory, enough: &dyn Fn(&Event) -> bool| {
        let shown = Rc::new(Shown::default());
        tokio::select! {
            reason = device(tls, factory, Rc::clone(&shown)) => panic!("the device restarts: {reason:?}"),
            () = shown.until(|shown| shown.events().iter().any(enough)) => {}
        }
        shown.events()
    };
    let enrolled = |event: &Event| matches!(event, Event::Enrolled { .. });
    let events = until(broker.factory("host-1", "localhost", "pki/root-ca.crt"), &enrolled).await;
    assert!(events.contains(&Event::Online(Rung::Claim)), "{events:?}");
    assert!(events.contains(&Event::Enrolled { thing: "sensor-host-1".into() }), "{events:?}");

    let untrusted = |event: &Event| *event == Event::ServerUntrusted;
    for (name, root) in [("localhost", "root/root.crt"), ("elsewhere.example", "pki/root-ca.crt")] {
        let events = until(broker.factory("host-2", name, root), &untrusted).await;
        assert!(!events.iter().any(|event| matches!(event, Event::Online(_))), "{name} {root}: {events:?}");
    }
}
