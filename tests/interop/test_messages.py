"""Every client: identity, messages at every QoS both ways, last will, retained messages, and what the policy refuses."""

import differences
import pytest
from harness.clients import KINDS, Will

ALL = [pytest.param(kind, id=kind.name) for kind in KINDS.values()]
BY_QOS = [pytest.param(kind, qos, id=f"{kind.name}-qos{qos}") for kind in KINDS.values() for qos in kind.qos]
VERSION = {4: "3.1.1", 5: "5.0"}


@pytest.mark.parametrize("kind", ALL)
def test_the_broker_takes_the_name_of_the_certificate(kind, broker, connect):
    client = connect(kind, broker, "sensor-002", name="sensor-002")
    assert broker.connected(client.client_id).name == "sensor-002"


@pytest.mark.parametrize(("kind", "qos"), BY_QOS)
def test_telemetry_reaches_the_operator(kind, qos, broker, connect, operator, unique):
    topic = f"devices/sensor-001/telemetry/{unique}"
    assert operator.subscribe(topic, 2) == 2
    device = connect(kind, broker)
    assert device.publish(topic, f"21.5 {unique}", qos) in (0x00, 0x10)
    message = operator.message(topic)
    assert (message.payload, message.qos, message.retain) == (f"21.5 {unique}", qos, False)


@pytest.mark.parametrize(("kind", "qos"), BY_QOS)
def test_a_command_reaches_the_device(kind, qos, broker, connect, operator, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    device = connect(kind, broker)
    assert device.subscribe(topic, qos) == qos
    assert operator.publish(topic, f"reboot {unique}", 2) == 0
    message = device.message(topic)
    assert (message.payload, message.qos, message.retain) == (f"reboot {unique}", qos, False)


@pytest.mark.parametrize("kind", ALL)
def test_a_message_of_several_tls_records_goes_both_ways(kind, broker, connect, operator, unique):
    payload = unique * 3000
    up, down = f"devices/sensor-001/telemetry/{unique}", f"devices/sensor-001/commands/{unique}"
    operator.subscribe(up, 1)
    device = connect(kind, broker)
    device.subscribe(down, 1)
    operator.publish(down, payload, 1)
    assert device.message(down).payload == payload
    device.publish(up, payload, 1)
    assert operator.message(up).payload == payload


@pytest.mark.parametrize("kind", ALL)
def test_the_will_is_sent_when_the_client_dies(kind, broker, connect, operator, unique):
    topic = "devices/sensor-001/status"
    operator.subscribe(topic, 1)
    device = connect(kind, broker, will=Will(topic, f"lost {unique}"))
    broker.connected(device.client_id)
    device.die()
    assert operator.message(topic).payload == f"lost {unique}"


@pytest.mark.parametrize("kind", ALL)
def test_the_farewell_decides_about_the_will(kind, broker, connect, operator, unique):
    topic, marker = "devices/sensor-001/status", f"devices/sensor-001/commands/{unique}"
    operator.subscribe(topic, 1)
    operator.subscribe(marker, 1)
    device = connect(kind, broker, will=Will(topic, f"lost {unique}"))
    broker.connected(device.client_id)
    device.disconnect()
    broker.disconnected(device.client_id)
    operator.publish(marker, "after the end of the connection", 1)
    assert operator.topics_until(marker) == ([topic, marker] if kind.farewell_sends_will else [marker])


@pytest.mark.parametrize("kind", ALL)
def test_a_will_outside_the_policy_is_not_sent(kind, broker, connect, operator, unique):
    topic, marker = "devices/sensor-002/status", f"devices/sensor-001/commands/{unique}"
    operator.subscribe(topic, 1)
    operator.subscribe(marker, 1)
    device = connect(kind, broker, will=Will(topic, f"forged {unique}"))
    broker.connected(device.client_id)
    device.die()
    broker.disconnected(device.client_id)
    operator.publish(marker, "after the end of the connection", 1)
    assert operator.topics_until(marker) == [marker]


@pytest.mark.parametrize("kind", ALL)
def test_a_retained_command_waits_for_the_device(kind, broker, connect, operator, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    operator.publish(topic, f"interval 60 {unique}", 1, retain=True)
    device = connect(kind, broker)
    assert device.subscribe(topic, 1) == 1
    message = device.message(topic)
    assert (message.payload, message.retain) == (f"interval 60 {unique}", True)
    operator.publish(topic, "", 1, retain=True)


@pytest.mark.parametrize("kind", ALL)
def test_a_retained_report_waits_for_the_operator(kind, broker, connect, operator, unique):
    topic = f"devices/sensor-001/telemetry/{unique}"
    device = connect(kind, broker)
    device.publish(topic, f"on {unique}", 1, retain=True)
    operator.subscribe(topic, 1)
    message = operator.message(topic)
    assert (message.payload, message.retain) == (f"on {unique}", True)
    device.publish(topic, "", 1, retain=True)


@pytest.mark.parametrize("kind", ALL)
def test_a_device_cannot_write_for_another(kind, broker, connect, operator, unique):
    foreign, own = f"devices/sensor-002/telemetry/{unique}", f"devices/sensor-001/telemetry/{unique}"
    operator.subscribe(foreign, 1)
    operator.subscribe(own, 1)
    device = connect(kind, broker)
    expected = differences.CODES[f"denied publish, {VERSION[kind.version]}"][broker.kind]
    assert device.publish(foreign, "forged", 1) == expected
    device.publish(own, "genuine", 1)
    assert operator.topics_until(own) == [own]


@pytest.mark.parametrize("kind", ALL)
def test_a_device_cannot_read_the_commands_of_another(kind, broker, connect, operator, unique):
    foreign, own = f"devices/sensor-002/commands/{unique}", f"devices/sensor-001/commands/{unique}"
    device = connect(kind, broker)
    expected = differences.CODES[f"uncovered subscribe, {VERSION[kind.version]}"][broker.kind]
    assert device.subscribe(foreign, 1) == expected
    assert device.subscribe(own, 1) == 1
    operator.publish(foreign, "not for you", 1)
    operator.publish(own, "for you", 1)
    assert device.topics_until(own) == [own]
