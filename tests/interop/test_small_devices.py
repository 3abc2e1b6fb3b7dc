"""BearSSL, Mbed TLS and wolfSSL with the buffers of small devices."""

import pytest
from harness.brokers import Profile
from harness.clients import KINDS, Refused

# BearSSL's record buffer, the listener's max-fragment-size.
BEARSSL = [(16384, None), (16384, 1024), (16384, 512), (1024, 1024), (1024, 512), (512, 512)]
# The maximum fragment length that Mbed TLS announces, the listener's max-fragment-size.
MBEDTLS = [(None, None), (2048, None), (4096, None), (None, 2048), (2048, 2048)]
# Mbed TLS 2.28 cannot put together a handshake message that is split over two records. In 1024 bytes there is room
# for the broker's part of the handshake when it sends its own certificate alone, and the device has its issuer.
MBEDTLS_LEAF = [(1024, None), (None, 1024), (1024, 1024)]


# wolfSSL 5.5's version and announced maximum fragment length, the listener's max-fragment-size. Its TLS 1.3 cannot put
# together a handshake message that is split over two records.
WOLFSSL = [("1.2", None, None), ("1.2", 1024, None), ("1.2", 4096, None), ("1.2", None, 1024), ("1.2", None, 2048)]
WOLFSSL += [("1.3", None, None), ("1.3", 4096, None), ("1.3", None, 4096)]


def profile(fragment, **more):
    return Profile(f"fragment-{fragment}", fragment_bytes_max=fragment, **more) if fragment or more else Profile()


def both_ways(broker, connect, kind, settings, unique, ca=None):
    payload = unique * 1000
    up, down = f"devices/sensor-001/telemetry/{unique}", f"devices/sensor-001/commands/{unique}"
    operator = connect(KINDS["paho-5"], broker, "admin", ca=ca)
    operator.subscribe(up, 1)
    device = connect(kind, broker, tls_settings=settings, ca=ca)
    device.subscribe(down, 1)
    operator.publish(down, payload, 1)
    assert device.message(down).payload == payload
    device.publish(up, payload, 1)
    assert operator.message(up).payload == payload


@pytest.mark.parametrize(("buffer", "fragment"), BEARSSL)
def test_bearssl_exchanges_12000_bytes(buffer, fragment, broker_with, connect, unique):
    both_ways(broker_with(profile(fragment)), connect, KINDS["bearssl"], {"buffer": buffer}, unique)


@pytest.mark.parametrize(("announced", "fragment"), MBEDTLS)
def test_mbedtls_exchanges_12000_bytes(announced, fragment, broker_with, connect, unique):
    settings = {"fragment": announced} if announced else {}
    both_ways(broker_with(profile(fragment)), connect, KINDS["mbedtls"], settings, unique)


@pytest.mark.parametrize(("version", "announced", "fragment"), WOLFSSL)
def test_wolfssl_exchanges_12000_bytes(version, announced, fragment, broker_with, connect, unique):
    settings = {"version": version} | ({"fragment": announced} if announced else {})
    both_ways(broker_with(profile(fragment)), connect, KINDS["wolfssl"], settings, unique)


@pytest.mark.needs("leaf alone")
@pytest.mark.parametrize(("announced", "fragment"), MBEDTLS_LEAF)
def test_mbedtls_lives_with_1024_bytes_when_the_server_sends_its_leaf(
    announced, fragment, broker_with, connect, pki, unique
):
    settings = {"fragment": announced} if announced else {}
    broker = broker_with(profile(fragment, server_leaf_only=True))
    both_ways(broker, connect, KINDS["mbedtls"], settings, unique, ca=pki.bundle(pki.issuing, pki.root))


def test_a_small_buffer_that_is_not_announced_takes_small_messages(broker, connect, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    device = connect(KINDS["bearssl"], broker, tls_settings={"buffer": 512, "announce": "no"})
    device.subscribe(topic, 1)
    operator = connect(KINDS["paho-5"], broker, "admin")
    operator.publish(topic, "short", 1)
    assert device.message(topic).payload == "short"


def test_a_small_buffer_that_is_not_announced_cannot_take_a_large_message(broker, connect, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    device = connect(KINDS["bearssl"], broker, tls_settings={"buffer": 512, "announce": "no"})
    device.subscribe(topic, 1)
    operator = connect(KINDS["paho-5"], broker, "admin")
    operator.publish(topic, unique * 1000, 1)
    assert "BearSSL error 6" in device.wait_closed()["why"]
    broker.disconnected(device.client_id)


@pytest.mark.parametrize("name", ["paho-5", "mqttjs-5", "rumqttc-5", "awsiotsdk-5", "mosquitto-5"])
@pytest.mark.parametrize("fragment", [1024, 512])
def test_large_clients_do_not_mind_small_records(name, fragment, broker_with, connect, unique):
    both_ways(broker_with(profile(fragment)), connect, KINDS[name], {}, unique)


@pytest.mark.parametrize("bad", ["expired", "foreign-ca", "revoked", "wrong-eku", None])
def test_a_small_buffer_sees_the_refusal_too(bad, broker_with, connect):
    broker = broker_with(profile(512))
    with pytest.raises(Refused, match="received alert|closed the connection"):
        connect(KINDS["bearssl"], broker, bad, tls_settings={"buffer": 512})
