//! Every answer leaves before the embedded clients give up, whatever is slow: they wait 1000 ms.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::json;
use signet_registry::{Change, StatusKind};
use signet_tests::build::{self, V5, V311};

use crate::device::{Asking, CSR, Created, FLEET, Format, csr, new_key};
use crate::factory::Factory;
use crate::hook::with_script;

/// The embedded clients' `MQTT_PROCESS_LOOP_TIMEOUT_MS`.
const PATIENCE: Duration = Duration::from_millis(1000);

/// A disk that hangs while this is held: what was written is not answered. What the broker notes by itself, of revocation lists
/// that it has signed and the like, goes through: it would hang with that, before it comes to what is asked for.
pub(crate) fn stuck(factory: &Factory) -> mpsc::Sender<()> {
    let (held, released) = mpsc::channel();
    let released = Mutex::new(released);
    factory.registry().subscribe(move |applied, _| {
        if applied.events.iter().all(|event| matches!(event.change, Change::Noted { .. })) {
            return;
        }
        // It ends with an error, when the other end is gone.
        let _ = released.lock().unwrap().recv();
    });
    held
}

fn listening(factory: &Factory, version: build::Version) -> Asking {
    let claim = factory.claim("line-1");
    let mut asking = Asking::connect(&claim.door(), version, "small");
    asking.listen(&format!("{CSR}/cbor"));
    asking.listen(&format!("{FLEET}/cbor"));
    asking
}

fn late() -> (u64, String) {
    (503, "ServiceUnavailable".to_owned())
}

#[test]
fn a_device_is_told_in_time_that_the_disk_hangs_and_gets_in_when_it_works_again() {
    for version in build::BOTH {
        let factory = Factory::new();
        let mut asking = listening(&factory, version);
        let disk = stuck(&factory);
        let key = new_key();
        let request = json!({"certificateSigningRequest": csr(&key)});
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(asking.ask(CSR, Format::Cbor, &request).rejected(), late());
            assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        }
        drop(disk);
        let created = Created::read(&asking.ask(CSR, Format::Cbor, &request).accepted());
        asking.register(&created.token, "d1", Format::Cbor).accepted();
        assert_eq!(factory.metric("signet_provisioning_refusals_total{reason=\"late\"}"), 2.0);
        assert_eq!(factory.metric("signet_provisioning_alarms_total{kind=\"refusals\"}"), 0.0);
        factory.until("nothing is under way", |factory| {
            factory.metric("signet_level{of=\"provisioning_in_flight\"}") == 0.0
        });
    }
}

#[test]
fn a_registration_whose_answer_came_too_late_is_begun_again_with_the_same_serial_number() {
    let factory = Factory::new();
    let mut asking = listening(&factory, V311);
    let key = new_key();
    let created = asking.create(&key, Format::Cbor);
    let disk = stuck(&factory);
    let began = Instant::now();
    assert_eq!(asking.register(&created.token, "d1", Format::Cbor).rejected(), late());
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    drop(disk);
    // It was written all the same; the device does not know that and starts over.
    let again = asking.create(&key, Format::Cbor);
    asking.register(&again.token, "d1", Format::Cbor).accepted();
    let door = factory.door().presenting_bare(&again.der(), &key.serialize_der());
    door.connect(&build::connect(V311, "small"), V311).expect_nothing();
    let registry = factory.registry().snapshot();
    let status = |created: &Created| {
        let id = signet_identity::CertificateId::of(&created.der());
        registry.certificate(&id).unwrap().status.kind()
    };
    assert_eq!((status(&created), status(&again)), (StatusKind::Revoked, StatusKind::Active));
}

#[test]
fn the_longest_hook_and_a_disk_that_hangs_after_it_are_in_time_together() {
    let factory = with_script("sleep 0.4\necho '{\"allowProvisioning\": true}'", "700ms");
    let mut asking = listening(&factory, V5);
    let created = asking.create(&new_key(), Format::Cbor);
    let disk = stuck(&factory);
    let began = Instant::now();
    assert_eq!(asking.register(&created.token, "d1", Format::Cbor).rejected(), late());
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    drop(disk);
}

#[test]
fn a_hook_that_never_answers_is_a_no_in_time() {
    let factory = with_script("sleep 60", "700ms");
    let mut asking = listening(&factory, V5);
    let created = asking.create(&new_key(), Format::Cbor);
    let began = Instant::now();
    let denied = asking.register(&created.token, "d1", Format::Cbor).rejected();
    assert_eq!(denied, (403, "AccessDenied".to_owned()));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}
