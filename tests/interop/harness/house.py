"""A broker with a registry and an authority of its own, in a folder of its own."""

import json
import os
import subprocess
import time

from harness import programs
from harness.brokers import ACL, free_port
from harness.waiting import DEADLINE, Lines


class House:
    """A folder with a configuration, an authority, and the broker that runs with it."""

    def __init__(self, directory, binary, pki):
        self.directory = directory
        self.binary = binary
        self.pki = pki
        self.process = None
        self.env = {}
        self.metrics_port = free_port()

    def configure(self, *ca, more=()):
        lines = [
            "[[listener]]",
            'address = "127.0.0.1:0"',
            f'certificate = "{self.pki.chain("server")}"',
            f'private-key = "{self.pki.key("server")}"',
            'client-ca = ["ca/issuing.crt"]',
            "max-connections = 50",
            f'[acl]\nfile = "{ACL}"',
            '[registry]\nmode = "on"',
            "[ca]",
            *ca,
            f'[admin]\nsocket = "signet.sock"\nmetrics-address = "127.0.0.1:{self.metrics_port}"',
            *more,
        ]
        (self.directory / "signet.toml").write_text("\n".join(lines) + "\n")

    def run(self, *arguments, code=0):
        argv = [str(part) for part in (self.binary, *arguments)]
        done = subprocess.run(
            argv, cwd=self.directory, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=DEADLINE
        )
        assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def ask(self, *arguments):
        return json.loads(self.run(*arguments, "--config", "signet.toml", "--json"))

    def start(self):
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        argv = [self.binary, "run", "--config", "signet.toml", "--ready-file", "ready"]
        self.process = programs.start(argv, env=self.env, cwd=self.directory, stderr=subprocess.PIPE)
        self.log = Lines(self.process.stderr)
        self.log.wait_for(lambda line: True if "revocation list written" in line else None, what="the broker's start")
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            assert self.process.poll() is None and time.monotonic() < end, self.log.text()
        addresses = ready.read_text().split()
        self.port = int(addresses[0].rsplit(":", 1)[1])
        self.https = [address for address in addresses if address.startswith("https://")]

    def stop(self):
        if self.process is not None:
            programs.stop(self.process)
            self.process = None

    def path(self, name):
        return self.directory / name

    def openssl_verify(self, device):
        """What OpenSSL says of a device's certificate, by the list that the broker wrote."""
        argv = ["openssl", "verify", "-crl_check", "-CAfile", "root/root.crt", "-untrusted", "ca/issuing.crt"]
        argv += ["-purpose", "sslclient", "-CRLfile", "ca/issuing.crl", f"out/{device}/device.crt"]
        done = subprocess.run(argv, cwd=self.directory, capture_output=True, text=True, timeout=DEADLINE)
        return done.stdout + done.stderr

    def wait_for_verdict(self, device, part):
        """The list is written beside the command's answer."""
        end = time.monotonic() + DEADLINE
        while part not in (said := self.openssl_verify(device)):
            assert time.monotonic() < end, said
        return said

    def publish(self, device):
        """Whether the device gets a message through."""
        argv = ["mosquitto_pub", "-h", "localhost", "-p", self.port, "--cafile", self.pki.root, "-V", "5", "-q", "1"]
        argv += ["--cert", self.path(f"out/{device}/device-chain.crt"), "--key", self.path(f"out/{device}/device.key")]
        argv += ["-t", f"devices/{device}/telemetry/x", "-m", "21.5"]
        done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode == 0
