"""The AWS IoT Device SDK for Python, and rustot for microcontrollers, unmodified, claim a certificate from this broker as they
would from AWS IoT Core."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness.house import House
from harness.waiting import DEADLINE

pytestmark = pytest.mark.needs("authority")

AGENT = Path(__file__).parent / "clients" / "awsiot_fleet.py"
RUSTOT = Path(__file__).parent / ".work" / "rustot" / "debug" / "interop-rustot"

TEMPLATE = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {"ThingName": {"Fn::Join": ["", ["fp_demo_", {"Ref": "SerialNumber"}]]}},
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
        },
    },
    "DeviceConfiguration": {"Hall": "7"},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory, signet_binary, pki):
    house = House(tmp_path_factory.mktemp("fleet"), signet_binary, pki)
    house.configure()
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    house.start()
    house.path("fleet.json").write_text(json.dumps(TEMPLATE))
    house.ask("template", "add", "--kind", "fleet", "--keys", "fleet", "fleet.json")
    house.ask("claim", "create", "--template", "fleet", "--keys", "--out", ".", "line-1")
    yield house
    house.stop()


def enrol(house, version, service, serial, csr=True, **change):
    device = house.path(serial)
    request = None
    key = f"{device}.key"
    if csr:
        argv = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        argv += ["-keyout", key, "-out", f"{device}.csr", "-subj", "/CN=Fleet Provisioning Demo"]
        subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)
        request = Path(f"{device}.csr").read_text()
    claim = next(path.parent for path in house.directory.glob("line-1/*.key"))
    wanted = {
        "host": "localhost",
        "port": house.port,
        "ca": str(house.pki.root),
        "cert": str(next(claim.glob("*.crt"))),
        "key": str(next(claim.glob("*.key"))),
        "client_id": serial,
        "csr": request,
        "template": "fleet",
        "parameters": {"SerialNumber": serial},
        "device": str(device),
        "device_key": key,
        "mqtt": version,
        "service": service,
        **change,
    }
    done = subprocess.run(
        [sys.executable, AGENT], input=json.dumps(wanted), capture_output=True, text=True, timeout=3 * DEADLINE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("csr", [True, False], ids=["csr", "keys"])
@pytest.mark.parametrize("service", ["v1", "v2"])
@pytest.mark.parametrize("version", ["3", "5"])
def test_the_sdk_claims_a_certificate_and_connects_with_it(house, version, service, csr):
    serial = f"{version}{service}{'csr' if csr else 'keys'}"
    kept = enrol(house, version, service, serial, csr)
    assert kept["thing"] == f"fp_demo_{serial}"
    assert kept["configuration"] == {"Hall": "7"}
    assert len(kept["certificate_id"]) == 64
    assert (kept["key"] is None) == csr
    assert not kept["session_present"], "the claim's session is not the device's"
    assert kept["denied"], "it is confined to its own topics"
    shown = house.ask("device", "show", kept["thing"])
    assert [row["status"] for row in shown["device"]["certificates"]] == ["active"]


@pytest.mark.parametrize("service", ["v1", "v2"])
@pytest.mark.parametrize("version", ["3", "5"])
def test_the_sdk_is_told_why_it_is_refused(house, version, service):
    refused = enrol(house, version, service, f"no{version}{service}", parameters={})["refused"]
    assert refused.startswith("400 InvalidParameters: ")
    refused = enrol(house, version, service, f"bad{version}{service}", csr=True, parameters={"SerialNumber": "a/b"})["refused"]
    assert refused.startswith("400 InvalidParameters: ")


def enrol_small(house, form, serial, **change):
    claim = next(path.parent for path in house.directory.glob("line-1/*.key"))
    name = f"fp_demo_{serial}"
    wanted = {
        "host": "localhost",
        "port": house.port,
        "ca": str(house.pki.root),
        "cert": str(next(claim.glob("*.crt"))),
        "key": str(next(claim.glob("*.key"))),
        # It wants its thing to have the name that it connects with.
        "client_id": name,
        "format": form,
        "template": "fleet",
        "parameters": {"SerialNumber": serial},
        "device_cert": str(house.path(f"{serial}.cert")),
        "device_key": str(house.path(f"{serial}.key")),
        "forbidden": "devices/fp_demo_other/telemetry/boot",
        **change,
    }
    done = subprocess.run([RUSTOT, json.dumps(wanted)], capture_output=True, text=True, timeout=3 * DEADLINE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The embedded clients give up after a second, and drop a packet that their buffer has no room for: the program checks both.
@pytest.mark.parametrize("form", ["cbor", "json"])
def test_rustot_claims_a_certificate_and_connects_with_it(house, form):
    kept = enrol_small(house, form, f"small{form}")
    assert kept["configuration"] == {"Hall": "7"}
    assert len(kept["certificate_id"]) == 64
    assert kept["largest_packet"] <= 2048
    assert not kept["session_present"], "the claim's session is not the device's"
    assert kept["denied"], "it is confined to its own topics"
    shown = house.ask("device", "show", f"fp_demo_small{form}")
    assert [row["status"] for row in shown["device"]["certificates"]] == ["active"]


@pytest.mark.parametrize("form", ["cbor", "json"])
def test_rustot_is_told_why_it_is_refused(house, form):
    assert enrol_small(house, form, f"no{form}", parameters={})["refused"] == "Response(400)"
