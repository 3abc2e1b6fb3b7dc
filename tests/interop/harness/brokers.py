"""The two brokers that the suite runs against, behind one interface.

Signet is what is tested. Mosquitto is the reference: `--broker mosquitto` runs the same tests against it, which shows
that the tests say what MQTT says and not what Signet does. `differences.py` lists where the two differ on purpose.
"""

import json
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import programs
from harness.waiting import DEADLINE, Lines

ACL = Path(__file__).resolve().parent / "acl.conf"


@dataclass(frozen=True)
class Profile:
    """How a broker is set up, beyond the lesson's configuration."""

    name: str = "standard"
    # Trust anchors of client certificates: the root, the issuing CA for devices that send only their leaf, or a path.
    anchors: tuple = ("root", "issuing")
    fragment_bytes_max: int | None = None
    handshake_seconds: int | None = None
    require_eku: bool = True
    crl: bool = True
    # The server sends its own certificate without the issuing CA's.
    server_leaf_only: bool = False
    # Names and values of the broker's environment.
    environment: tuple = ()


@dataclass(frozen=True)
class Connected:
    """What the broker logged about an accepted CONNECT."""

    name: str
    fields: dict


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A running broker and its log."""

    kind = ""

    def __init__(self, profile, pki, directory):
        self.profile = profile
        self.pki = pki
        self.directory = directory
        self.process = None
        self.log = None
        self.port = 0

    def anchors(self):
        known = {"root": self.pki.root, "issuing": self.pki.issuing}
        return [known.get(anchor, anchor) for anchor in self.profile.anchors]

    def server_certificate(self):
        return self.pki.leaf("server") if self.profile.server_leaf_only else self.pki.chain("server")

    def mark(self):
        """The position in the log from which a test looks for what it provokes."""
        return self.log.mark()

    def stop(self):
        programs.stop(self.process)

    def alive(self):
        return self.process.poll() is None


class Mosquitto(Broker):
    kind = "mosquitto"

    def start(self):
        self.port = free_port()
        config = self.directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"cafile {self.pki.bundle(*self.anchors())}",
            f"certfile {self.server_certificate()}",
            f"keyfile {self.pki.key('server')}",
            "require_certificate true",
            "use_identity_as_username true",
            f"acl_file {ACL}",
            "set_tcp_nodelay true",
            "user root",
            "log_dest stderr",
            "log_type all",
        ]
        if self.profile.crl:
            lines.append(f"crlfile {self.pki.crl}")
        config.write_text("\n".join(lines) + "\n")
        argv = ["/usr/sbin/mosquitto", "-c", config]
        self.process = programs.start(argv, env=dict(self.profile.environment), stderr=subprocess.PIPE)
        self.log = Lines(self.process.stderr)
        self.log.wait_for(lambda line: True if line.endswith("running") else None, what="Mosquitto's start")
        return self

    def connected(self, client_id, since=0):
        pattern = re.compile(rf"New client connected from \S+ as {re.escape(client_id)} \(.*u'([^']*)'\)")

        def pick(line):
            found = pattern.search(line)
            return Connected(found[1], {}) if found else None

        return self.log.wait_for(pick, since, DEADLINE, f"the connection of {client_id}")

    def disconnected(self, client_id, since=0):
        ended = re.compile(rf"Client {re.escape(client_id)} (closed its connection|disconnected)")
        self.log.wait_for(lambda line: True if ended.search(line) else None, since, DEADLINE, f"the end of {client_id}")

    def failure(self, cause):
        """Mosquitto logs OpenSSL's words without peer, certificate or hint: nothing to check."""
        return None


class Signet(Broker):
    kind = "signet"
    binary = None

    def start(self):
        profile = self.profile
        anchors = ", ".join(f'"{path}"' for path in self.anchors())
        listener = [
            'address = "127.0.0.1:0"',
            f'certificate = "{self.server_certificate()}"',
            f'private-key = "{self.pki.key("server")}"',
            f"client-ca = [{anchors}]",
            f"require-client-auth-eku = {str(profile.require_eku).lower()}",
            "max-connections = 200",
        ]
        if profile.crl:
            listener.append(f'crl = ["{self.pki.crl}"]')
        if profile.fragment_bytes_max:
            listener.append(f"max-fragment-size = {profile.fragment_bytes_max}")
        if profile.handshake_seconds:
            listener.append(f"handshake-timeout = {profile.handshake_seconds}")
        self.config = self.directory / "signet.toml"
        self.config.write_text(
            "[[listener]]\n" + "\n".join(listener) + "\n\n"
            f'[acl]\nfile = "{ACL}"\n\n'
            # Every client of the suite comes from one address.
            "[limits]\nhandshakes-per-address-per-second = 0\n\n"
            f'[admin]\nsocket = "{self.directory / "signet.sock"}"\n\n'
            '[log]\nformat = "json"\nlevel = "debug"\n'
        )
        argv = [self.binary, "run", "--config", self.config]
        self.process = programs.start(argv, env=dict(profile.environment), stderr=subprocess.PIPE)
        self.log = Lines(self.process.stderr)
        listening = self._record(
            0, "Signet's start", lambda record: record.get("message", "").startswith("listening")
        )
        self.port = int(listening["address"].rsplit(":", 1)[1])
        return self

    def _record(self, since, what, matching):
        def pick(line):
            record = json.loads(line) if line.startswith("{") else {}
            return record if matching(record) else None

        return self.log.wait_for(pick, since, DEADLINE, what)

    def connected(self, client_id, since=0):
        def matching(record):
            return record.get("message") == "connected" and record["client_id"] == client_id

        record = self._record(since, f"the connection of {client_id}", matching)
        return Connected(record["name"], record)

    def disconnected(self, client_id, since=0):
        def matching(record):
            return record.get("message", "").startswith("disconnected") and record["client_id"] == client_id

        self._record(since, f"the end of {client_id}", matching)

    def failure(self, cause):
        """The record of the handshake that failed for `cause`, as `signet tls failures` shows it."""

        def matching(record):
            return record.get("message") == "tls handshake failed" and record["cause"] == cause

        return self._record(0, f"a failure record: {cause}", matching)

    def ask(self, *command):
        """The output of an operator's command to the running broker."""
        argv = [self.binary, *command, "--config", self.config]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout


KINDS = {broker.kind: broker for broker in (Signet, Mosquitto)}
