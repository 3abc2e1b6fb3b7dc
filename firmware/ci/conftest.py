"""Fixtures: a broker with a registry, an authority, a claim and an operator; and emulated devices."""

import os
import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "factory"))

CONFIGURATION = """
[[listener]]
address = "127.0.0.1:0"
certificate = "pki/server-chain.crt"
private-key = "pki/server.key"
client-ca = ["ca/issuing.crt"]
max-connections = 100
max-fragment-size = 4096
[acl]
file = "acl.conf"
[registry]
mode = "on"
[ca]
[admin]
socket = "signet.sock"
"""
POLICY = """
pattern readwrite devices/%u/#
role operator
topic readwrite devices/#
"""


def pytest_addoption(parser):
    parser.addoption("--signet", default=os.environ.get("SIGNET_BIN"), help="the broker's binary")
    parser.addoption("--firmware", default=os.environ.get("SIGNET_QEMU_FIRMWARE"), help="the firmware for QEMU (ELF)")
    parser.addoption("--seed", type=int, default=None, help="of the moments at which machines are killed")


class Broker:
    """Signet in a folder of its own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.signet("dev", "--dir", "pki", "--no-run")
        (folder / "signet.toml").write_text(CONFIGURATION)
        (folder / "acl.conf").write_text(POLICY)
        self.signet("ca", "init", "--config", "signet.toml", "--root", "root")
        self.start()
        for name, file, kind in (("fleet", "fleet.json", "fleet"), ("rotate", "rotation.json", "rotation")):
            self.ask("template", "add", name, ROOT / "config" / "templates" / file, "--kind", kind)
        self.ask("claim", "create", "line-1", "--template", "fleet", "--out", "claims")
        self.ask("operator", "add", "operations", "--key", "--out", "operators")

    def signet(self, *arguments):
        done = subprocess.run(
            [self.binary, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def ask(self, *arguments):
        return self.signet(*arguments, "--config", "signet.toml")

    def start(self):
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self.binary, "run", "--config", "signet.toml", "--ready-file", "ready"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("a"),
        )  # fmt: skip
        wait_until(lambda: ready.exists() and ready.read_text().strip(), "the broker is ready", self.log)
        self.port = int(ready.read_text().strip().rsplit(":", 1)[1])

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def log(self):
        return (self.folder / "log").read_text()


def wait_until(holds, what, context=lambda: "", seconds=60):
    """Waits for something outside this process; there is nothing here to be told by."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds} s until {what}\n{context()}"
        time.sleep(0.02)


class Machine:
    """An emulated device that runs. Its lines come in order."""

    def __init__(self, folder, firmware, port, *options):
        pipe = f"{sys.executable} {HERE / 'pipe.py'} {port}"
        network = f"user,id=n0,restrict=on,guestfwd=tcp:10.0.2.100:{port}-cmd:{pipe}"
        self.process = subprocess.Popen(
            [
                "qemu-system-riscv32", "-M", "virt", "-cpu", "rv32", "-bios", "none", "-m", "64M",
                "-display", "none", "-monitor", "none", "-serial", "null",
                "-semihosting-config", "enable=on,target=native", "-global", "virtio-mmio.force-legacy=false",
                "-device", "virtio-net-device,netdev=n0", "-device", "virtio-rng-device", "-netdev", network,
                "-kernel", str(firmware), *options,
            ],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines, self.seen = queue.Queue(), []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip())
        self.lines.put(None)

    def until(self, *wanted, seconds=90):
        """The first line that contains one of these."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{wanted} did not come in {seconds} s:\n" + "\n".join(self.seen)) from None
            assert line is not None, f"the machine ended before {wanted}:\n" + "\n".join(self.seen)
            self.seen.append(line)
            if any(text in line for text in wanted):
                return line

    def kill(self):
        self.process.kill()
        self.process.wait(10)


class Sensor:
    """A device: its flash, and the machine that runs now."""

    def __init__(self, serial, folder, firmware, broker):
        self.serial, self.folder, self.firmware, self.broker = serial, folder, firmware, broker
        self.machine = None

    def thing(self):
        return f"sensor-{self.serial}"

    def boot(self, *options):
        self.machine = Machine(self.folder, self.firmware, self.broker.port, *options)
        return self.machine


@pytest.fixture(scope="session")
def seed(request):
    seed = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    binary = request.config.getoption("--signet")
    if binary is None:
        pytest.exit("say which Signet: SIGNET_BIN or --signet", 2)
    broker = Broker(Path(binary).resolve(), tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture
def sensor(request, broker, tmp_path):
    """Makes devices with factory data; their machines are ended with the test."""
    import signet_factory

    firmware = request.config.getoption("--firmware")
    if firmware is None:
        pytest.exit("say which firmware: SIGNET_QEMU_FIRMWARE or --firmware", 2)
    made = []

    def make(serial, root="pki/root-ca.crt", form="cbor"):
        folder = tmp_path / serial
        folder.mkdir()
        assert signet_factory.main([
            "nvs", f"--serial={serial}", "--credential", str(broker.folder / "claims" / "line-1"),
            "--broker", f"localhost:{broker.port}", "--server-ca", str(broker.folder / root),
            "--template", "fleet", "--rotation-template", "rotate", "--format", form,
            "--out", str(folder / "factory.bin"),
        ]) == 0  # fmt: skip
        made.append(Sensor(serial, folder, Path(firmware).resolve(), broker))
        return made[-1]

    yield make
    for each in made:
        if each.machine:
            each.machine.kill()


class Operator:
    """An operator's client, which remembers what it heard."""

    def __init__(self, broker):
        self.heard = queue.Queue()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="operations", protocol=paho.MQTTv5)
        folder = broker.folder / "operators" / "operations"
        self.client.tls_set(
            ca_certs=str(broker.folder / "pki/root-ca.crt"),
            certfile=str(folder / "device-chain.crt"), keyfile=str(folder / "device.key"),
        )  # fmt: skip
        subscribed = threading.Event()
        self.client.on_message = lambda _, __, message: self.heard.put((message.topic, message.payload.decode()))
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        self.client.subscribe("devices/#", qos=1)
        assert subscribed.wait(20), "the operator could not subscribe"

    def until(self, topic, seconds=90):
        """The payload of the next message on a topic."""
        end = time.monotonic() + seconds
        while True:
            try:
                heard, payload = self.heard.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing came on {topic} in {seconds} s") from None
            if heard == topic:
                return payload

    def publish(self, topic, payload):
        self.client.publish(topic, payload, qos=1).wait_for_publish(20)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def operator(broker):
    operator = Operator(broker)
    yield operator
    operator.close()
