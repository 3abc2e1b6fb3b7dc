"""The wall clock is set under the whole program while devices are connected: a day on, a day back, 1970, ten years on.

libfaketime shows the broker another wall clock than everybody else has; the monotonic clock stays the machine's. The certificates
of all devices here would have ended ten years on.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import differences
import pytest
from harness.brokers import Profile
from harness.clients import KINDS, Refused
from harness.waiting import DEADLINE

DAY = 86_400
# How far from the truth the clock is, in seconds, one after the other.
STEPS = {"a day on": DAY, "a day back": -DAY, "1970": None, "ten years on": 3650 * DAY, "as it was": 0}
SET = "the wall clock was set"
CONNECTED = {"paho-5": "sensor-001", "paho-3.1.1": "sensor-002", "mqttjs-5": "sensor-001", "mosquitto-5": "sensor-001"}


class Clock:
    """The broker's wall clock: as far from the truth as a file says."""

    def __init__(self, directory):
        self.file = directory / "offset"
        self.show(0)
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def show(self, offset):
        """At once, and never half of it."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        os.replace(new, self.file)


def openssl(*arguments, at=None):
    under = ["faketime", "-f", at] if at else []
    argv = [*under, "openssl", *(str(part) for part in arguments)]
    subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)


@pytest.fixture(scope="module")
def lapsed(pki):
    """An authority, and a certificate that it gave out for a day and that ended six hours ago."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca, ca_key = pki.directory / "lapsed-ca.crt", pki.directory / "lapsed-ca.key"
    openssl("req", "-x509", *key, "-keyout", ca_key, "-out", ca, "-days", 30, "-subj", "/CN=Lapsed CA", at="-10d")
    leaf = ["-keyout", pki.key("lapsed"), "-out", pki.leaf("lapsed"), "-days", 1, "-subj", "/CN=sensor-001"]
    leaf += ["-CA", ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("req", "-x509", *key, *leaf, "-addext", "extendedKeyUsage=clientAuth", at="-30h")
    pki.chain("lapsed").write_text(pki.leaf("lapsed").read_text())
    return ca


def alarms(broker, count):
    """Waits until so many jumps were told, and answers how many were."""
    end = time.monotonic() + DEADLINE
    while (told := broker.log.text().count(SET)) < count:
        assert time.monotonic() < end, f"{told} alarms of {count}"
        time.sleep(0.1)
    return told


def let_in(connect, broker):
    """Whose new connection is accepted."""
    inside = set()
    for who, certificate in {"good": "sensor-001", "lapsed": "lapsed"}.items():
        try:
            connect(KINDS["paho-5"], broker, certificate).disconnect()
            inside.add(who)
        except Refused as refused:
            print(f"{who}: {refused}")
    return inside


def test_a_clock_that_is_set_disconnects_nobody_and_lets_nothing_in_that_has_ended(
    own_broker_with, connect, lapsed, tmp_path, unique
):
    clock = Clock(tmp_path)
    anchors = ("root", "issuing", lapsed)
    environment = tuple(clock.environment.items())
    broker = own_broker_with(Profile("clock", anchors=anchors, crl=False, environment=environment))
    operator = connect(KINDS["paho-5"], broker, "admin", client_id=f"operator-{unique}")
    devices = []
    for kind, name in CONNECTED.items():
        device = connect(KINDS[kind], broker, name, name=name)
        device.subscribe(f"devices/{name}/commands/#", 1)
        devices.append((name, device))
    away = connect(KINDS["paho-5"], broker, client_id=f"away-{unique}", keep_session=True)
    away.subscribe("devices/sensor-001/commands/#", 1)
    away.die()
    broker.disconnected(f"away-{unique}")
    operator.publish("devices/sensor-001/commands/waits", "for who is away", 1)
    allowed = differences.LET_IN[broker.kind]
    for jumps, (step, offset) in enumerate(STEPS.items(), start=1):
        clock.show(-int(time.time()) if offset is None else offset)
        if broker.kind == "signet":
            assert alarms(broker, jumps) == jumps, f"{step}: {broker.log.text()}"
        topic = step.replace(" ", "-")
        for name in sorted(set(CONNECTED.values())):
            operator.publish(f"devices/{name}/commands/{topic}", f"{step} {unique}", 1)
        for name, device in devices:
            assert device.message(f"devices/{name}/commands/{topic}").payload == f"{step} {unique}", step
        assert let_in(connect, broker) == allowed[step], f"{step}: {broker.log.text()}"
    again = connect(KINDS["paho-5"], broker, client_id=f"away-{unique}", keep_session=True)
    assert again.connection["session_present"] is differences.AWAY_KEPT[broker.kind]
    if differences.AWAY_KEPT[broker.kind]:
        assert again.message("devices/sensor-001/commands/waits").payload == "for who is away"
