"""Eclipse Paho for Python, MQTT 3.1.1 and 5.0; with `tunnel`, over another library's TLS."""

import logging
import socket
import ssl
import subprocess
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent_io import emit, operations, spec


class OverTunnel(mqtt.Client):
    """The same client, its bytes carried by a program that does the TLS."""

    tunnel = ()

    def _create_socket_connection(self):
        ours, theirs = socket.socketpair()
        self.carrier = subprocess.Popen(self.tunnel, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True)
        theirs.close()
        return ours

    def carrier_says(self):
        try:
            self.carrier.wait(5)
        except subprocess.TimeoutExpired:
            return "the TLS program is still running"
        return self.carrier.stderr.read().strip()


class Trouble(logging.Handler):
    """Keeps what paho only logs: the TLS alert behind a lost connection."""

    def __init__(self):
        super().__init__()
        self.last = ""

    def emit(self, record):
        if record.levelno >= logging.WARNING or "failed to" in record.getMessage():
            self.last = record.getMessage()


def code_of(reason):
    return reason.value if hasattr(reason, "value") else int(reason)


def make(wanted, trouble):
    kind = OverTunnel if wanted.get("tunnel") else mqtt.Client
    five = wanted["version"] == 5
    client = kind(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=wanted["client_id"],
        protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
        clean_session=None if five else not wanted.get("keep_session"),
        reconnect_on_failure=False,
    )
    log = logging.getLogger("paho")
    log.setLevel(logging.DEBUG)
    log.addHandler(trouble)
    client.enable_logger(log)
    if wanted.get("tunnel"):
        client.tunnel = wanted["tunnel"]
    else:
        context = ssl.create_default_context(cafile=wanted["ca"])
        if wanted["cert"]:
            context.load_cert_chain(wanted["cert"], wanted["key"])
        if wanted.get("alpn"):
            context.set_alpn_protocols(wanted["alpn"])
        if wanted.get("tls_max") == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        client.tls_set_context(context)
    if wanted.get("username") is not None:
        client.username_pw_set(wanted["username"], wanted.get("password"))
    will = wanted.get("will")
    if will:
        properties = Properties(PacketTypes.WILLMESSAGE) if five else None
        client.will_set(will["topic"], will["payload"], will["qos"], will["retain"], properties)
    return client


def main():
    wanted = spec()
    trouble = Trouble()
    client = make(wanted, trouble)
    connected = []

    def why(reason):
        parts = [str(reason), trouble.last]
        if wanted.get("tunnel"):
            parts.append(client.carrier_says())
        return "; ".join(part for part in parts if part)

    def on_connect(client, _data, flags, reason, _properties):
        if reason.is_failure:
            emit("refused", why=why(reason))
            return
        connected.append(True)
        sock = client.socket()
        tls = sock.version() if hasattr(sock, "version") else None
        alpn = sock.selected_alpn_protocol() if hasattr(sock, "selected_alpn_protocol") else None
        emit("connected", session_present=flags.session_present, tls=tls, alpn=alpn)

    def on_disconnect(_client, _data, _flags, reason, _properties):
        emit("closed" if connected else "refused", why=why(reason))

    def on_message(_client, _data, message):
        emit("message", topic=message.topic, payload=message.payload.decode(), qos=message.qos, retain=message.retain)

    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    client.on_message = on_message
    client.on_subscribe = lambda _c, _d, _mid, reasons, _p: emit("subscribed", code=code_of(reasons[0]))
    client.on_publish = lambda _c, _d, _mid, reason, _p: emit("published", code=code_of(reason))
    arguments = {}
    if wanted["version"] == 5 and wanted.get("keep_session"):
        arguments["properties"] = Properties(PacketTypes.CONNECT)
        arguments["properties"].SessionExpiryInterval = 300
        arguments["clean_start"] = False
    try:
        client.connect(wanted["host"], wanted["port"], keepalive=30, **arguments)
    except OSError as error:
        emit("refused", why=str(error))
        return
    client.loop_start()
    for operation in operations():
        match operation["op"]:
            case "subscribe":
                client.subscribe(operation["filter"], operation["qos"])
            case "publish":
                client.publish(operation["topic"], operation["payload"], operation["qos"], operation["retain"])
            case "disconnect":
                client.disconnect()


if __name__ == "__main__":
    sys.exit(main())
