"""The clients: each adapter drives an unmodified client through the same few operations."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from harness import programs
from harness.waiting import DEADLINE, REFUSAL_DEADLINE, Ended, Lines

HERE = Path(__file__).resolve().parent.parent
WORK = HERE / ".work"


class Refused(Exception):
    """The client did not get a connection; the text is what it could tell."""


@dataclass(frozen=True)
class Will:
    topic: str
    payload: str
    qos: int = 1
    retain: bool = False

    def fields(self):
        return {"topic": self.topic, "payload": self.payload, "qos": self.qos, "retain": self.retain}


@dataclass(frozen=True)
class Message:
    topic: str
    payload: str
    qos: int
    retain: bool


@dataclass
class Dial:
    """A connection to make."""

    port: int
    client_id: str
    ca: Path
    cert: Path | None
    key: Path | None
    pki: object
    host: str = "localhost"
    will: Will | None = None
    extra: dict = field(default_factory=dict)


class Agent:
    """A client library behind the line protocol of `clients/PROTOCOL.md`."""

    def __init__(self, argv, version, env=None, tls=None):
        self.argv = argv
        self.version = version
        self.env = env
        self.tls = tls
        self.process = None
        self.events = None
        self.seen = 0
        self.connection = {}

    def connect(self, dial):
        wanted = {
            "host": dial.host,
            "port": dial.port,
            "version": self.version,
            "client_id": dial.client_id,
            "ca": str(dial.ca),
            "cert": dial.cert and str(dial.cert),
            "key": dial.key and str(dial.key),
            "will": dial.will and dial.will.fields(),
            **{name: value for name, value in dial.extra.items() if name != "tls_settings"},
        }
        if self.tls is not None:
            wanted["tunnel"] = self.tls(dial)
        self.process = programs.start(
            [*dial.extra.pop("under", ()), *self.argv, json.dumps(wanted)],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events = Lines(self.process.stdout)
        self.complaints = Lines(self.process.stderr)
        try:
            self.connection = self._next(("connected", "refused"), timeout=REFUSAL_DEADLINE)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\nstandard error:\n{self.complaints.text()}") from None
        if self.connection["event"] == "refused":
            raise Refused(self.connection["why"])
        return self

    def _next(self, kinds, timeout=DEADLINE, matching=lambda event: True):
        def pick(line):
            event = json.loads(line)
            if event["event"] in kinds and matching(event):
                return event
            if event["event"] == "closed":
                raise ConnectionError(f"waiting for {kinds}, but the connection closed: {event}")
            return None

        return self.events.wait_for(pick, since=self.seen, timeout=timeout, what=f"one of {kinds}")

    def _do(self, answer, **operation):
        self.seen = self.events.mark() if answer else self.seen
        self.process.stdin.write(json.dumps(operation) + "\n")
        self.process.stdin.flush()
        return self._next((answer,)) if answer else None

    def subscribe(self, topic_filter, qos):
        return self._do("subscribed", op="subscribe", filter=topic_filter, qos=qos)["code"]

    def publish(self, topic, payload, qos, retain=False):
        return self._do("published", op="publish", topic=topic, payload=payload, qos=qos, retain=retain)["code"]

    def message(self, topic, timeout=DEADLINE):
        """The first message on `topic` since the connection began."""

        def pick(line):
            event = json.loads(line)
            return event if event["event"] == "message" and event["topic"] == topic else None

        event = self.events.wait_for(pick, timeout=timeout, what=f"a message on {topic}")
        return Message(event["topic"], event["payload"], event["qos"], event["retain"])

    def topics_until(self, topic):
        """The topics of all messages so far; waits until one on `topic` has come."""
        self.message(topic)
        events = [json.loads(line) for line in self.events.text().splitlines()]
        return [event["topic"] for event in events if event["event"] == "message"]

    def disconnect(self):
        self._do(None, op="disconnect")

    def wait_closed(self, timeout=DEADLINE):
        def pick(line):
            event = json.loads(line)
            return event if event["event"] == "closed" else None

        return self.events.wait_for(pick, timeout=timeout, what="the end of the connection")

    def die(self):
        if self.process is not None:
            programs.kill(self.process)


class MosquittoCli:
    """mosquitto_pub and mosquitto_sub. Each operation is a program, so a connection, of its own."""

    def __init__(self, version):
        self.version = version
        self.dial = None
        self.subscribers = []
        self.connection = {}

    def _argv(self, program, client_id):
        dial = self.dial
        argv = [*dial.extra.get("under", ()), "stdbuf", "-oL", program, "-d", "-h", dial.host, "-p", dial.port, "-i", client_id]
        argv += ["-V", "mqttv5" if self.version == 5 else "mqttv311", "--cafile", dial.ca, "-k", 30]
        if dial.cert:
            argv += ["--cert", dial.cert, "--key", dial.key]
        if dial.extra.get("tls_max"):
            argv += ["--tls-version", "tlsv" + dial.extra["tls_max"]]
        if dial.extra.get("alpn"):
            argv += ["--tls-alpn", dial.extra["alpn"][0]]
        if dial.extra.get("username") is not None:
            argv += ["-u", dial.extra["username"]]
        if dial.extra.get("password") is not None:
            argv += ["-P", dial.extra["password"]]
        return argv

    def _subscriber(self, client_id, topic_filter, qos, will=None):
        argv = self._argv("mosquitto_sub", client_id) + ["-t", topic_filter, "-q", qos, "-F", "%j"]
        if will:
            argv += ["--will-topic", will.topic, "--will-payload", will.payload, "--will-qos", will.qos]
            argv += ["--will-retain"] if will.retain else []
        process = programs.start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = Lines(process.stdout)
        self.subscribers.append((process, lines))
        return lines

    def connect(self, dial):
        self.dial = dial
        name = dial.extra.get("name", "sensor-001")
        lines = self._subscriber(dial.client_id, f"devices/{name}/commands/-", 0, dial.will)
        try:
            lines.wait_for(lambda line: True if line.startswith("Subscribed") else None, what="Subscribed")
        except Ended:
            raise Refused(lines.text()) from None
        return self

    def subscribe(self, topic_filter, qos):
        lines = self._subscriber(f"{self.dial.client_id}-sub{len(self.subscribers)}", topic_filter, qos)

        def pick(line):
            granted = re.match(r"Subscribed \(mid: \d+\): (\d+)", line)
            return int(granted[1]) if granted else None

        return lines.wait_for(pick, what="Subscribed")

    def publish(self, topic, payload, qos, retain=False):
        argv = self._argv("mosquitto_pub", f"{self.dial.client_id}-pub") + ["-t", topic, "-m", payload, "-q", qos]
        argv += ["-r"] if retain else []
        argv = [str(part) for part in argv]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
        codes = re.findall(r"received PUB(?:ACK|REC|COMP) \(Mid: \d+, RC:(\d+)\)", done.stdout)
        if done.returncode != 0 and not codes:
            raise Refused(done.stdout + done.stderr)
        return max([int(code) for code in codes], default=0)

    def message(self, topic, timeout=DEADLINE):
        def pick(line):
            if not line.startswith("{"):
                return None
            found = json.loads(line)
            return found if found["topic"] == topic else None

        found = self.subscribers[-1][1].wait_for(pick, timeout=timeout, what=f"a message on {topic}")
        return Message(found["topic"], found["payload"], found["qos"], bool(found["retain"]))

    def topics_until(self, topic):
        """The topics of all messages so far, of all subscribers; waits until one on `topic` has come."""
        self.message(topic)
        lines = "\n".join(lines.text() for _, lines in self.subscribers).splitlines()
        return [json.loads(line)["topic"] for line in lines if line.startswith("{")]

    def disconnect(self):
        """mosquitto_sub sends DISCONNECT when it is asked to end."""
        self.subscribers[0][0].terminate()

    def die(self):
        for process, _ in self.subscribers:
            programs.kill(process)


def bearssl(dial):
    """BearSSL's command line for a connection."""
    argv = [WORK / "bearssl_tls", f"port={dial.port}", "name=localhost", f"ca={dial.pki.der(dial.ca)[0]}"]
    if dial.cert:
        argv += [f"cert={der}" for der in dial.pki.der(dial.cert)] + [f"key={dial.pki.der(dial.key)[0]}"]
    argv += [f"{name}={value}" for name, value in dial.extra.get("tls_settings", {}).items()]
    return [str(part) for part in argv]


def _with_pem(program):
    """The command line of a pipe that reads PEM files."""

    def command(dial):
        argv = [WORK / program, f"port={dial.port}", "name=localhost", f"ca={dial.ca}"]
        if dial.cert:
            argv += [f"cert={dial.cert}", f"key={dial.key}"]
        argv += [f"{name}={value}" for name, value in dial.extra.get("tls_settings", {}).items()]
        return [str(part) for part in argv]

    return command


mbedtls = _with_pem("mbedtls_tls")
wolfssl = _with_pem("wolfssl_tls")


@dataclass(frozen=True)
class Kind:
    """A client of the matrix."""

    name: str
    make: Callable[[], object]
    version: int
    qos: tuple = (0, 1, 2)
    # How it says farewell when its user ends it: mosquitto_sub asks for its will by DISCONNECT 0x04 in MQTT 5.0.
    farewell_sends_will: bool = False


def _python(script, version, tls=None):
    return lambda: Agent([sys.executable, HERE / "clients" / script], version, tls=tls)


def _mqttjs(version):
    modules = {"NODE_PATH": str(WORK / "node" / "node_modules")}
    return lambda: Agent(["node", HERE / "clients" / "mqttjs_agent.cjs"], version, env=modules)


def _rumqttc(version):
    return lambda: Agent([WORK / "rumqttc" / "debug" / "interop-rumqttc"], version)


# AWS IoT has no QoS 2, and neither have its SDKs.
AWS_QOS = (0, 1)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("mosquitto-3.1.1", lambda: MosquittoCli(4), 4),
        Kind("mosquitto-5", lambda: MosquittoCli(5), 5, farewell_sends_will=True),
        Kind("paho-3.1.1", _python("paho_agent.py", 4), 4),
        Kind("paho-5", _python("paho_agent.py", 5), 5),
        Kind("mqttjs-3.1.1", _mqttjs(4), 4),
        Kind("mqttjs-5", _mqttjs(5), 5),
        Kind("rumqttc-3.1.1", _rumqttc(4), 4),
        Kind("rumqttc-5", _rumqttc(5), 5),
        Kind("awsiotsdk-3.1.1", _python("awscrt_agent.py", 4), 4, AWS_QOS),
        Kind("awsiotsdk-5", _python("awscrt_agent.py", 5), 5, AWS_QOS),
        Kind("mbedtls", _python("paho_agent.py", 4, mbedtls), 4),
        Kind("wolfssl", _python("paho_agent.py", 4, wolfssl), 4),
        Kind("bearssl", _python("paho_agent.py", 4, bearssl), 4),
    )
}
