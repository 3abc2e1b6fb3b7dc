"""The AWS IoT Device SDK v2 for Python as its builders make it: MQTT 3.1.1 and 5.0 over s2n."""

import sys

from awscrt import io, mqtt, mqtt5
from awsiot import mqtt5_client_builder, mqtt_connection_builder

from agent_io import emit, operations, spec


def files(wanted):
    """The arguments of the SDK's builders."""
    return {
        "endpoint": wanted["host"],
        "port": wanted["port"],
        "cert_filepath": wanted["cert"],
        "pri_key_filepath": wanted["key"],
        "ca_filepath": wanted["ca"],
        "client_id": wanted["client_id"],
    }


def without_certificate(wanted):
    """TLS for a connection that the builders do not offer: no client certificate."""
    options = io.TlsContextOptions()
    options.override_default_trust_store_from_path(None, wanted["ca"])
    return io.ClientTlsContext(options)


def nobody_v3(wanted):
    client = mqtt.Client(tls_ctx=without_certificate(wanted))
    return mqtt.Connection(client, wanted["host"], wanted["port"], wanted["client_id"], keep_alive_secs=30)


def nobody_v5(wanted, **callbacks):
    return mqtt5.Client(
        mqtt5.ClientOptions(
            host_name=wanted["host"],
            port=wanted["port"],
            tls_ctx=without_certificate(wanted),
            connect_options=mqtt5.ConnectPacket(client_id=wanted["client_id"]),
            **callbacks,
        )
    )


def run_v3(wanted):
    will = wanted.get("will")
    if will:
        will = mqtt.Will(will["topic"], mqtt.QoS(will["qos"]), will["payload"].encode(), will["retain"])
    if wanted["cert"] is None:
        connection = nobody_v3(wanted)
    else:
        connection = mqtt_connection_builder.mtls_from_path(
            **files(wanted),
            will=will,
            clean_session=True,
            keep_alive_secs=30,
            on_connection_interrupted=lambda connection, error, **_: emit("closed", why=str(error)),
        )

    def on_message(topic, payload, dup, qos, retain, **_):
        emit("message", topic=topic, payload=payload.decode(), qos=int(qos), retain=retain)

    connection.on_message(on_message)
    try:
        answer = connection.connect().result(40)
    except Exception as error:
        emit("refused", why=str(error))
        return
    emit("connected", session_present=answer["session_present"])

    def published(done):
        emit("published", code=0) if done.exception() is None else emit("published", code=0x80, why=str(done.exception()))

    for operation in operations():
        match operation["op"]:
            case "subscribe":
                done, _ = connection.subscribe(operation["filter"], mqtt.QoS(operation["qos"]))
                try:
                    emit("subscribed", code=int(done.result(20)["qos"]))
                except Exception as error:
                    emit("subscribed", code=0x80, why=str(error))
            case "publish":
                done, _ = connection.publish(
                    operation["topic"], operation["payload"].encode(), mqtt.QoS(operation["qos"]), operation["retain"]
                )
                done.add_done_callback(published)
            case "disconnect":
                connection.disconnect().result(20)
                emit("closed", why="disconnected")


def run_v5(wanted):
    will = wanted.get("will")
    if will:
        will = mqtt5.PublishPacket(
            topic=will["topic"], payload=will["payload"].encode(), qos=mqtt5.QoS(will["qos"]), retain=will["retain"]
        )

    def on_success(data):
        emit("connected", session_present=data.connack_packet.session_present)

    def on_failure(data):
        emit("refused", why=str(data.exception))

    def on_publish(data):
        packet = data.publish_packet
        emit("message", topic=packet.topic, payload=packet.payload.decode(), qos=int(packet.qos), retain=packet.retain)

    if wanted["cert"] is None:
        client = nobody_v5(
            wanted,
            on_lifecycle_event_connection_success_fn=on_success,
            on_lifecycle_event_connection_failure_fn=on_failure,
        )
    else:
        client = mqtt5_client_builder.mtls_from_path(
            **files(wanted),
            will=will,
            will_delay_interval_sec=0 if will else None,
            on_publish_received=on_publish,
            on_lifecycle_connection_success=on_success,
            on_lifecycle_connection_failure=on_failure,
            on_lifecycle_disconnection=lambda data: emit("closed", why=str(data.exception)),
        )
    client.start()

    def published(done):
        error = done.exception()
        if error is not None:
            emit("published", code=0x80, why=str(error))
            return
        # After a QoS 0 message the packet is there too, without a reason code.
        emit("published", code=int(done.result().puback.reason_code or 0))

    for operation in operations():
        match operation["op"]:
            case "subscribe":
                asked = mqtt5.Subscription(topic_filter=operation["filter"], qos=mqtt5.QoS(operation["qos"]))
                answer = client.subscribe(mqtt5.SubscribePacket(subscriptions=[asked])).result(20)
                emit("subscribed", code=int(answer.reason_codes[0]))
            case "publish":
                packet = mqtt5.PublishPacket(
                    topic=operation["topic"],
                    payload=operation["payload"].encode(),
                    qos=mqtt5.QoS(operation["qos"]),
                    retain=operation["retain"],
                )
                client.publish(packet).add_done_callback(published)
            case "disconnect":
                client.stop(mqtt5.DisconnectPacket())


if __name__ == "__main__":
    request = spec()
    sys.exit(run_v5(request) if request["version"] == 5 else run_v3(request))
