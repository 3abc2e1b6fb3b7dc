"""The sensor as 32-bit machine code against the real broker: it claims, publishes, rotates, survives, and refuses."""

import json
import re

import pytest

# What TLS and MQTT may take of the heap at their peak, in bytes: half of what an ESP32-C3 has left beside Wi-Fi.
TLS_HEAP_MAX = 32 * 1024
# How often a machine is killed while it enrols and rotates.
KILLS = 12


@pytest.mark.parametrize("form", ["cbor", "json"])
def test_a_new_device_claims_its_identity_publishes_and_comes_back_as_itself(sensor, operator, form):
    device = sensor(f"new-{form}", form=form)
    machine = device.boot()
    machine.until("event Store(Blank)")
    machine.until("event Online(Claim)")
    machine.until("event Online(Own(A))")
    machine.until(f'event Enrolled {{ thing: "{device.thing()}" }}')
    reading = json.loads(operator.until(f"devices/{device.thing()}/telemetry/environment"))
    assert reading["device"] == device.thing()
    assert 20 < reading["temp"] < 23 and reading["hum"] == 45 and reading["uptime"] >= 0
    machine.kill()
    assert operator.until(f"devices/{device.thing()}/status") in ("online", "offline")

    again = device.boot()
    again.until("event Store(Ready)")
    # Straight as itself: the claim is not used again.
    line = again.until("event Online")
    assert "Own(A)" in line


def token(broker, device):
    """A one-time token for a device."""
    return json.loads(broker.ask("token", "create", device, "--json"))["token"]


def test_a_new_device_with_a_token_gets_its_certificate_over_https_and_comes_back_as_itself(
    sensor, operator, broker
):
    device = sensor("token-1", token=token(broker, "token-1"))
    machine = device.boot()
    machine.until("event CandidateStored(A)")
    # By its own certificate, at once: there is no claim.
    assert "Own(A)" in machine.until("event Online")
    machine.until('event Enrolled { thing: "token-1" }')
    reading = json.loads(operator.until("devices/token-1/telemetry/environment"))
    assert reading["device"] == "token-1"
    machine.kill()
    again = device.boot()
    assert "Own(A)" in again.until("event Online")


def test_a_token_that_was_used_or_is_for_another_device_is_refused_loudly(sensor, broker):
    secret = token(broker, "token-2")
    for serial in ("token-3", "token-2", "token-2-again"):
        device = sensor(serial, token=secret)
        machine = device.boot()
        if serial == "token-2":
            machine.until("event Enrolled")
        else:
            machine.until("event Rejected(Rejection { status_code: 40")
            assert not any("Online" in line for line in machine.seen)
        machine.kill()


def test_tls_and_mqtt_stay_within_their_share_of_the_heap(sensor, operator):
    device = sensor("heap-1")
    machine = device.boot()
    machine.until("event Enrolled")
    operator.publish(f"devices/{device.thing()}/commands/interval", json.dumps({"id": "1", "seconds": 5}))
    peaks = []
    while len(peaks) < 2:
        line = machine.until("heap tls-and-mqtt")
        peak, stack = map(int, re.findall(r"peak=(\d+)", line))
        # The first reading may be taken before there was any connection.
        if peak > 8 * 1024:
            peaks.append(peak)
            print(f"heap peak of TLS and MQTT {peak} bytes, stack {stack} bytes")
    assert max(peaks) < TLS_HEAP_MAX


def test_a_device_rotates_when_it_is_told_to_and_keeps_working(sensor, operator):
    device = sensor("rot-1")
    machine = device.boot()
    machine.until("event Enrolled")
    operator.until(f"devices/{device.thing()}/status")
    operator.publish(f"devices/{device.thing()}/certs/rotate", "{}")
    machine.until("event RotationStarted")
    machine.until("event CandidateStored(B)")
    machine.until("event Rotated(B)")
    reading = operator.until(f"devices/{device.thing()}/telemetry/environment")
    assert json.loads(reading)["device"] == device.thing()
    machine.kill()
    again = device.boot()
    assert "Own(B)" in again.until("event Online")


def test_a_command_is_answered_and_a_bad_one_changes_nothing(sensor, operator):
    device = sensor("cmd-1")
    machine = device.boot()
    machine.until("event Enrolled")
    results = f"devices/{device.thing()}/telemetry/results"
    operator.until(f"devices/{device.thing()}/status")
    operator.publish(f"devices/{device.thing()}/commands/identify", json.dumps({"id": "a", "seconds": 3}))
    machine.until("identify secs=3")
    assert json.loads(operator.until(results))["ok"] is True
    for bad in ("{", json.dumps({"id": "b", "seconds": 10**9}), "x" * 4000):
        operator.publish(f"devices/{device.thing()}/commands/identify", bad)
        assert json.loads(operator.until(results))["ok"] is False


def test_a_machine_killed_at_any_moment_of_enrolment_and_rotation_never_loses_its_identity(
    sensor, operator, broker, seed
):
    device = sensor("kill-1")
    enrolled = False
    for _ in range(KILLS):
        machine = device.boot()
        # Somewhere before, in or after the next step: the number of lines is the clock.
        for _ in range(seed.randrange(1, 7)):
            line = machine.until("event", "heap", "boot")
            enrolled = enrolled or "Online(Own" in line
            if "Online(Own" in line:
                operator.publish(f"devices/{device.thing()}/certs/rotate", "{}")
            if enrolled:
                assert "Online(Claim)" not in line, "an enrolled device went back to its claim"
                assert "ProvisioningError" not in line
        machine.kill()
    machine = device.boot()
    machine.until("event Online(Own")
    shown = json.loads(broker.ask("device", "show", device.thing(), "--json"))
    active = [c for c in shown["device"]["certificates"] if c["status"] == "active"]
    assert 1 <= len(active) <= 2


@pytest.mark.parametrize(
    ("clock", "event"),
    [("2020-01-01", "event ClockUnknown"), ("2040-01-01", "event ServerUntrusted ALARM")],
    ids=["never set", "far ahead"],
)
def test_a_device_with_a_wrong_clock_does_not_connect(sensor, clock, event):
    device = sensor(f"clock-{clock[:4]}")
    machine = device.boot("-rtc", f"base={clock}")
    machine.until(event)
    machine.kill()
    assert not any("Online" in line for line in machine.seen)
    # With the right time it does.
    device.boot().until("event Enrolled")


def test_a_device_with_another_root_does_not_trust_the_broker(sensor):
    device = sensor("root-1", root="root/root.crt")
    machine = device.boot()
    machine.until("event ServerUntrusted ALARM")
    machine.kill()
    assert not any("Online" in line for line in machine.seen)
