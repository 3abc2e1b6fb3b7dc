"""The five failures that every fleet meets, each provoked by a real client, with the broker's record and hint."""

import pytest
from harness.brokers import Profile
from harness.clients import KINDS, Refused
from harness.slow_link import DeadLink

pytestmark = pytest.mark.needs("failure records")

IN_2001 = ("faketime", "-f", "2001-01-01 00:00:00")
IN_2101 = ("faketime", "-f", "2101-01-01 00:00:00")


def record_of_a_refusal(broker, connect, kind, cause, certificate="sensor-001", **settings):
    with pytest.raises(Refused) as refused:
        connect(KINDS[kind], broker, certificate, **settings)
    print(f"the client says: {refused.value}")
    return broker.failure(cause)


# 1. The device's clock is wrong.


@pytest.mark.parametrize("certificate", ["expired", "not-yet-valid"])
@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
def test_a_certificate_outside_its_validity(kind, certificate, own_broker, connect):
    cause = f"certificate_{certificate.replace('-', '_')}"
    record = record_of_a_refusal(own_broker, connect, kind, cause, certificate)
    assert "clock" in record["hint"]
    assert certificate in record["subject"]


@pytest.mark.parametrize("kind", ["mbedtls", "mosquitto-5", "paho-5"])
def test_a_device_whose_clock_is_ahead_rejects_our_certificate(kind, own_broker, connect):
    record = record_of_a_refusal(own_broker, connect, kind, "device_clock", under=IN_2101)
    assert "clock" in record["hint"]
    assert "certificate_expired" in record["alert"]


def test_a_device_whose_clock_never_started_rejects_our_certificate(own_broker, connect):
    record = record_of_a_refusal(own_broker, connect, "mbedtls", "device_clock", under=IN_2001)
    assert "SNTP" in record["hint"]


def test_openssl_with_a_clock_that_is_behind_says_bad_certificate(own_broker, connect):
    record = record_of_a_refusal(own_broker, connect, "mosquitto-5", "device_refused_us", under=IN_2001)
    assert "clock" in record["reason"]


def test_bearssl_without_a_clock_hangs_up_without_a_word(own_broker, connect):
    settings = {"now": 0, "buffer": 512}
    record = record_of_a_refusal(own_broker, connect, "bearssl", "vanished", tls_settings=settings)
    assert "refused our certificate silently" in record["hint"]


# 2. The device trusts the wrong root.


# The AWS SDK is not here: s2n keeps silent for up to 30 seconds, and the broker's deadline passes before that.
@pytest.mark.parametrize("kind", ["mbedtls", "mosquitto-5", "paho-5", "rumqttc-5"])
def test_a_device_with_the_wrong_root_rejects_our_certificate(kind, own_broker, connect, pki):
    record = record_of_a_refusal(own_broker, connect, kind, "wrong_root", ca=pki.foreign_root)
    assert "root" in record["hint"]


@pytest.mark.parametrize("kind", ["bearssl", "mqttjs-5"])
def test_a_client_that_hangs_up_without_an_alert_may_have_the_wrong_root(kind, own_broker, connect, pki):
    record = record_of_a_refusal(own_broker, connect, kind, "vanished", ca=pki.foreign_root)
    assert "root" in record["hint"]
    assert "without an alert" in record["reason"]


# 3. The broker does not know who signed the device's certificate.


@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
def test_a_certificate_of_an_unknown_authority(kind, own_broker, connect):
    record = record_of_a_refusal(own_broker, connect, kind, "unknown_device_certificate", "foreign-ca")
    assert "client-ca" in record["hint"]
    assert "Foreign" in record["issuer"]


# 4. The link is too slow.


@pytest.mark.parametrize("kind", ["mbedtls", "bearssl", "mosquitto-5"])
@pytest.mark.parametrize("budget", [0, 60, 600], ids=["silence", "half-a-hello", "hello-only"])
def test_a_handshake_that_stalls(kind, budget, own_broker_with, connect):
    broker = own_broker_with(Profile("impatient", handshake_seconds=1))
    link = DeadLink(broker.port, budget)
    try:
        with pytest.raises(Refused):
            connect(KINDS[kind], link, "sensor-001")
        assert "slow" in broker.failure("timed_out")["hint"]
    finally:
        link.close()


# 5. The record is too large for the device.


def test_mbedtls_hangs_up_when_the_broker_splits_its_handshake(own_broker, connect):
    settings = {"fragment": 1024}
    record = record_of_a_refusal(own_broker, connect, "mbedtls", "record_too_large", tls_settings=settings)
    assert "max-fragment-size" in record["hint"]
    assert "1024 bytes" in record["reason"]


# What the operator sees.


def test_the_operators_command_shows_the_failure(own_broker, connect):
    record_of_a_refusal(own_broker, connect, "mosquitto-5", "certificate_revoked", "revoked")
    shown = own_broker.ask("tls", "failures", "--each", "--json")
    assert "certificate_revoked" in shown
    assert "revoked" in own_broker.ask("tls", "failures")
