//! A fleet of two kinds at one broker: devices with Mbed TLS beside those of the simulator with rustls, which have faults. Both run
//! the same agent. `SIGNET_BIN` says which broker, `SIGNET_SIM_BIN` which simulator.

mod support;

use std::process::Stdio;
use std::rc::Rc;

use signet_device_core::Event;
use signet_device_core::topic::Format;
use support::{Running, Shown, device, mbed_tls};
use tokio::process::Command;
use tokio::task::LocalSet;

/// Devices with Mbed TLS.
const HANDFUL: usize = 5;
/// Devices with rustls.
const OTHERS: usize = 20;

#[tokio::test]
async fn devices_with_mbed_tls_claim_publish_and_rotate_beside_a_fleet_with_faults() {
    let simulator = std::env::var_os("SIGNET_SIM_BIN").expect("say which simulator: SIGNET_SIM_BIN=/path/to/signet-sim");
    let (broker, tls) = (Running::start(), mbed_tls());
    let (at, port) = (broker.folder.path(), broker.port);
    let fleet = Command::new(simulator)
        .args(["--broker", &format!("localhost:{port}"), "--ca", "pki/root-ca.crt", "--claim", "claims/line-1"])
        .args(["--devices", &OTHERS.to_string(), "--rotation-template", "rotate", "--rotate", "--json"])
        .args(["--faults", "some", "--faults-for", "10", "--interval", "2", "--timeout", "300"])
        .current_dir(at)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the simulator starts");
    let devices = LocalSet::new();
    let mut handful = Vec::new();
    for number in 0..HANDFUL {
        let mut factory = broker.factory(&format!("mbed-{number}"), "localhost", "pki/root-ca.crt");
        factory.format = if number % 2 == 0 { Format::Json } else { Format::Cbor };
        let shown = Rc::new(Shown::default());
        handful.push(Rc::clone(&shown));
        devices.spawn_local(device(tls, factory, shown));
    }
    let told = async {
        for (number, shown) in handful.iter().enumerate() {
            let thing = format!("sensor-mbed-{number}");
            shown.until(|shown| shown.events().contains(&Event::Enrolled { thing: thing.clone() })).await;
            shown.until(|shown| shown.taken() >= 3).await;
            shown.press();
            shown.until(|shown| shown.events().iter().any(|event| matches!(event, Event::Rotated(_)))).await;
            let taken = shown.taken();
            shown.until(|shown| shown.taken() >= taken + 2).await;
            let alarms: Vec<Event> = shown.events().into_iter().filter(Event::is_alarm).collect();
            assert!(alarms.is_empty(), "{thing}: {alarms:?}");
        }
        fleet.wait_with_output().await.expect("the simulator ends")
    };
    let verdict = devices.run_until(told).await;
    let said = String::from_utf8_lossy(&verdict.stdout);
    assert!(verdict.status.success(), "{said}");
    assert!(said.contains(&format!(r#""online":{OTHERS},"#)), "{said}");
    let list = broker.ask(&["device", "list", "--json"]);
    for number in 0..HANDFUL {
        assert!(list.contains(&format!("sensor-mbed-{number}\"")), "{number}: {list}");
    }
    println!("{HANDFUL} devices with Mbed TLS and {OTHERS} with rustls are online, and have rotated: {said}");
}
