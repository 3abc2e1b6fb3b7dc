"""Sessions that outlive a connection, and whose they are."""

import pytest
from harness.clients import KINDS

PAHO = [pytest.param(KINDS[name], id=name) for name in ("paho-3.1.1", "paho-5")]


@pytest.mark.parametrize("kind", PAHO)
@pytest.mark.parametrize("qos", [1, 2])
def test_commands_wait_for_a_device_that_keeps_its_session(kind, qos, broker, connect, operator, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    device = connect(kind, broker, client_id=unique, keep_session=True)
    assert device.connection["session_present"] is False
    device.subscribe(topic, qos)
    device.die()
    broker.disconnected(unique)
    operator.publish(topic, f"later {unique}", 2)
    again = connect(kind, broker, client_id=unique, keep_session=True)
    assert again.connection["session_present"] is True
    message = again.message(topic)
    assert (message.payload, message.qos) == (f"later {unique}", qos)


@pytest.mark.needs("client ids per name")
@pytest.mark.parametrize("kind", PAHO)
def test_another_name_with_the_same_client_id_neither_resumes_nor_evicts(kind, broker, connect, operator, unique):
    topic = f"devices/sensor-001/commands/{unique}"
    device = connect(kind, broker, client_id=unique, keep_session=True)
    device.subscribe(topic, 1)
    other = connect(kind, broker, "sensor-002", client_id=unique, keep_session=True)
    assert other.connection["session_present"] is False
    operator.publish(topic, f"still there {unique}", 1)
    assert device.message(topic).payload == f"still there {unique}"
