"""TLS versions, chains, server names, application protocols, and what a user name does not do."""

import differences
import pytest
from harness.brokers import Profile
from harness.clients import KINDS, Refused
from harness.openssl import alert, s_client

ALL = [pytest.param(kind, id=kind.name) for kind in KINDS.values()]
TELLS_TLS = [pytest.param(KINDS[name], id=name) for name in ("paho-3.1.1", "paho-5", "mqttjs-3.1.1", "mqttjs-5")]
SDK = "?SDK=IoTDeviceSDK/Python&Platform=Unix&Metadata=(CRTVersion=0.36.1;IoTSDKVersion=1.31.0)"
# CONNECT, MQTT 5.0, clean start, keep alive 30 s, client id "s", and DISCONNECT.
CONNECT_DISCONNECT = bytes.fromhex("100e00044d5154540502001e0000" + "0173" + "e000")


@pytest.mark.parametrize("kind", TELLS_TLS)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_tls_versions_are_spoken(kind, version, broker, connect):
    client = connect(kind, broker, tls_max=version)
    assert client.connection["tls"] == f"TLSv{version}"


@pytest.mark.parametrize("name", ["mosquitto-3.1.1", "mosquitto-5"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_tls_versions_are_spoken_to_the_mosquitto_clients(name, version, broker, connect):
    client = connect(KINDS[name], broker, tls_max=version)
    assert broker.connected(client.client_id).name == "sensor-001"


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_tls_versions_are_refused(version, broker, pki):
    old = (version, "-cipher", "DEFAULT:@SECLEVEL=0")
    output = s_client(broker.port, pki, certificate="sensor-001", arguments=old)
    assert alert(output) in differences.OLD_TLS_ALERTS[broker.kind], output


@pytest.mark.parametrize("kind", ALL)
def test_a_leaf_alone_is_accepted_where_its_issuer_is_an_anchor(kind, broker, connect):
    client = connect(kind, broker, leaf_only=True)
    assert broker.connected(client.client_id).name == "sensor-001"


@pytest.mark.parametrize("kind", ALL)
def test_leaf_and_intermediate_are_accepted_where_only_the_root_is_an_anchor(kind, broker_with, connect):
    broker = broker_with(Profile("root-only", anchors=("root",), crl=False))
    client = connect(kind, broker)
    assert broker.connected(client.client_id).name == "sensor-001"


@pytest.mark.parametrize("kind", ALL)
def test_a_leaf_alone_is_refused_where_only_the_root_is_an_anchor(kind, own_broker_with, connect):
    broker = own_broker_with(Profile("root-only", anchors=("root",), crl=False))
    with pytest.raises(Refused):
        connect(kind, broker, leaf_only=True)
    broker.failure("unknown_device_certificate")


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.values[0].name not in ("mbedtls", "bearssl")])
def test_an_ip_literal_as_host_is_tolerated(kind, broker, connect):
    client = connect(kind, broker, host="127.0.0.1")
    assert broker.connected(client.client_id).name == "sensor-001"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", ["127.0.0.1", "broker.example", None])
def test_any_server_name_is_tolerated(name, version, broker, pki):
    sni = ["-servername", name] if name else ["-noservername"]
    output = s_client(
        broker.port, pki, certificate="sensor-001", send=CONNECT_DISCONNECT, arguments=[version, "-nocommands", *sni]
    )
    assert alert(output) is None, output
    assert "Verify return code: 0 (ok)" in output


@pytest.mark.parametrize("kind", TELLS_TLS)
@pytest.mark.parametrize("protocol", ["mqtt", "x-amzn-mqtt-ca"])
def test_the_application_protocols_of_mqtt_are_accepted(kind, protocol, broker, connect):
    client = connect(kind, broker, alpn=[protocol])
    assert broker.connected(client.client_id).name == "sensor-001"


@pytest.mark.needs("ALPN")
@pytest.mark.parametrize("protocol", ["mqtt", "x-amzn-mqtt-ca"])
def test_the_application_protocol_is_confirmed(protocol, broker, connect):
    assert connect(KINDS["paho-5"], broker, alpn=[protocol]).connection["alpn"] == protocol


@pytest.mark.parametrize("name", ["mosquitto-3.1.1", "mosquitto-5", "paho-3.1.1", "paho-5", "mqttjs-3.1.1", "mqttjs-5"])
@pytest.mark.parametrize(("username", "password"), [(SDK, None), ("admin", "secret")], ids=["sdk", "admin"])
def test_the_user_name_in_connect_is_no_credential(name, username, password, broker, connect, operator, unique):
    forbidden, own = f"devices/sensor-002/commands/{unique}", f"devices/sensor-001/telemetry/{unique}"
    operator.subscribe(forbidden, 1)
    operator.subscribe(own, 1)
    client = connect(KINDS[name], broker, username=username, password=password)
    assert broker.connected(client.client_id).name == "sensor-001"
    client.publish(forbidden, "the operator could", 1)
    client.publish(own, "the device can", 1)
    assert operator.topics_until(own) == [own]


def test_a_certificate_without_extended_key_usage_is_accepted_where_the_listener_says_so(broker_with, connect):
    broker = broker_with(Profile("no-eku", require_eku=False))
    client = connect(KINDS["paho-5"], broker, "no-eku")
    assert broker.connected(client.client_id).name.startswith("s")


@pytest.mark.needs("EKU demanded")
def test_a_certificate_without_extended_key_usage_is_refused_by_default(own_broker, connect):
    with pytest.raises(Refused):
        connect(KINDS["paho-5"], own_broker, "no-eku")
    assert "require-client-auth-eku" in own_broker.failure("certificate_purpose")["hint"]


# The alerts of RFC 8446 section 6.2. Brokers differ in how they say "not yet valid" and, in TLS 1.2, "none".
ALERTS = {
    "expired": {45},
    "not-yet-valid": {42, 45},
    "foreign-ca": {48},
    "revoked": {44},
    "wrong-eku": {43},
    None: {40, 116},
}


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("bad", list(ALERTS), ids=[name or "none" for name in ALERTS])
def test_the_refused_client_sees_the_alert(bad, version, broker, pki):
    output = s_client(broker.port, pki, certificate=bad, arguments=[version])
    assert alert(output) in ALERTS[bad], output
