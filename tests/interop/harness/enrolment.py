"""A broker that gives certificates over HTTPS, and shell scripts against it."""

import os
import subprocess

from harness.waiting import DEADLINE


class Door:
    """A running house with an `[[https]]` address."""

    def __init__(self, house):
        self.house = house
        self.url = house.https[0].replace("127.0.0.1", "localhost")

    @staticmethod
    def configuration(pki, *more):
        """What belongs into the configuration of the house."""
        return [
            "[[https]]",
            'address = "127.0.0.1:0"',
            f'certificate = "{pki.chain("server")}"',
            f'private-key = "{pki.key("server")}"',
            # Every client of the suite comes from one address.
            "requests-per-address-per-minute = 0",
            *more,
        ]

    def command(self, script, **variables):
        """The command line and the environment of a script in the broker's folder."""
        env = {**os.environ, "URL": self.url, "SERVER_CA": str(self.house.pki.root), **variables}
        argv = ["bash", "-euo", "pipefail", "-c", script]
        return {"args": argv, "cwd": self.house.directory, "env": env, "text": True}

    def shell(self, script, code=0, **variables):
        """Runs a script in the broker's folder: its output."""
        done = subprocess.run(
            **self.command(script, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * DEADLINE
        )
        assert done.returncode == code, f"{script}\n{done.stdout}"
        return done.stdout

    def token(self, device):
        return self.house.ask("token", "create", device)["token"]

    def request(self, device, file):
        """A key and a signing request made by OpenSSL."""
        self.shell(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            f" -keyout {file}.key -out {file}.csr -subj /CN={device}"
        )

    def connects(self, device, file):
        """Whether a message of the device gets through with the certificate in that file."""
        argv = ["mosquitto_pub", "-h", "localhost", "-p", self.house.port, "--cafile", self.house.pki.root]
        argv += ["-V", "5", "-q", "1", "--cert", f"{file}.crt", "--key", f"{file}.key"]
        argv += ["-t", f"devices/{device}/telemetry/x", "-m", "21.5"]
        argv = [str(part) for part in argv]
        return subprocess.run(argv, cwd=self.house.directory, capture_output=True, timeout=DEADLINE).returncode == 0

    def statuses(self, device):
        shown = self.house.ask("device", "show", device)
        return [row["status"] for row in shown["device"]["certificates"]]
