"""The five failures that every fleet meets, each provoked by a real client, with the broker's record and hint."""

import pytest
from harness.brokers import Profile
from harness.clients import KINDS, Refused
from harness.slow_link import DeadLink

pytestmark = pytest.mark.needs("failure records")

IN_2001 = ("faketime", "-f", "2001-01-01 00:00:00")
IN_2101 = ("faketime", "-f", "2101-01-01 00:00:00")


def record_of_a_refusal(broker, connect, kind, reason, certificate="sensor-001", **settings):
    mark = broker.mark()
    with pytest.raises(Refused) as refused:
        connect(KINDS[kind], broker, certificate, **settings)
    print(f"the client says: {refused.value}")
    return broker.failure(reason, mark)


# 1. The device's clock is wrong.


@pytest.mark.parametrize(("certificate", "reason"), [("expired", "expired"), ("not-yet-valid", "not-yet-valid")])
@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
def test_a_certificate_outside_its_validity(kind, certificate, reason, broker, connect):
    record = record_of_a_refusal(broker, connect, kind, reason, certificate)
    assert "clock" in record["hint"]
    assert record["subject"]


@pytest.mark.parametrize("when", [IN_2001, IN_2101], ids=["2001", "2101"])
@pytest.mark.parametrize("kind", ["mbedtls", "mosquitto-5"])
def test_a_device_whose_own_clock_is_wrong_rejects_our_certificate(kind, when, broker, connect):
    record = record_of_a_refusal(broker, connect, kind, "client-rejected-certificate", under=when)
    assert "clock" in record["hint"]


def test_a_device_without_a_clock_hangs_up_without_a_word(broker, connect):
    record = record_of_a_refusal(broker, connect, "bearssl", "closed", tls_settings={"now": 0})
    assert "clock" in record["hint"]


# 2. The device trusts the wrong root.


@pytest.mark.parametrize("kind", ["mbedtls", "mosquitto-5", "paho-5", "mqttjs-5", "rumqttc-5", "awsiotsdk-5"])
def test_a_device_with_the_wrong_root_rejects_our_certificate(kind, broker, connect, pki):
    record = record_of_a_refusal(broker, connect, kind, "client-rejected-certificate", ca=pki.foreign_root)
    assert "root" in record["hint"]


# 3. The broker does not know who signed the device's certificate.


@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
def test_a_certificate_of_an_unknown_authority(kind, broker, connect):
    record = record_of_a_refusal(broker, connect, kind, "unknown-issuer", "foreign-ca")
    assert "client-ca" in record["hint"]
    assert "oreign" in record["issuer"]


# 4. The link is too slow.


@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
@pytest.mark.parametrize("budget", [0, 60, 2000], ids=["silence", "half-a-hello", "hello-only"])
def test_a_handshake_that_stalls(kind, budget, broker_with, connect):
    broker = broker_with(Profile("impatient", handshake_seconds=1))
    link = DeadLink(broker.port, budget)
    try:
        mark = broker.mark()
        with pytest.raises(Refused):
            connect(KINDS[kind], link, "sensor-001")
        assert "slow" in broker.failure("timeout", mark)["hint"]
    finally:
        link.close()


# 5. The record is too large for the device.


def test_a_device_with_a_small_buffer_that_it_does_not_announce(broker, connect):
    settings = {"buffer": 512, "announce": "no"}
    record = record_of_a_refusal(broker, connect, "bearssl", "closed", tls_settings=settings)
    assert "max-fragment-size" in record["hint"]
