//! What a supervisor such as systemd is told.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod peer;
mod setup;

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use setup::Setup;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_supervisor_hears_that_the_broker_is_ready_lives_and_stops() {
    let mut setup = Setup::new();
    let socket = UnixDatagram::bind(setup.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let child = setup
        .command(&["run", "--config", "signet.toml", "--ready-file", "ready"])
        .env("NOTIFY_SOCKET", setup.path("notify"))
        .env("WATCHDOG_USEC", "3000000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    setup.running = Some(child);
    assert!(hear().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    setup.works(&["stop", "--config", "signet.toml"]);
    assert!(setup.running.take().unwrap().wait().unwrap().success());
}

#[test]
fn without_a_supervisor_nobody_is_told() {
    let mut setup = Setup::started();
    setup.stop();
}
