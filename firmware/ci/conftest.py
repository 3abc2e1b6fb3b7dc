"""Fixtures: a broker with a registry, an authority, a claim and an operator; and emulated devices."""

import os
import queue
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
[[https]]
address = "127.0.0.1:0"
certificate = "pki/server-chain.crt"
private-key = "pki/server.key"
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
        for key in ("ota", "other"):
            self.make_key(key)

    def signet(self, *arguments):
        done = subprocess.run(
            [self.binary, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def make_key(self, name):
        """A key of updates: NAME.pem, and NAME.pub for the devices."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.pem").write_bytes(key.private_bytes(*private))
        public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (self.folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(*public))

    def publish_update(self, device, image, manifest):
        """`signet ota publish`, under way."""
        operator = self.folder / "operators" / "operations"
        return subprocess.Popen(
            [
                self.binary, "ota", "publish", device, "--image", image, "--manifest", manifest, "--json",
                "--broker", f"localhost:{self.port}", "--cert", operator / "device-chain.crt",
                "--key", operator / "device.key", "--ca", self.folder / "pki/root-ca.crt", "--within", "5m",
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

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
        addresses = ready.read_text().split()
        # Where MQTT is spoken, and where certificates are given over HTTPS.
        self.port, self.https_port = (int(address.rsplit(":", 1)[1]) for address in addresses)

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


# The partitions of images, as board-qemu has them.
IMAGES = ("ota_0", "ota_1")
IMAGE_BYTES = 0x1E0000
SECTOR = 4096
# Where the version of an image stands (board-qemu/src/version.rs).
VERSION_MARK = b"SIGNET-FIRMWARE-VERSION "
VERSION_BYTES = 24


def with_version(image, version):
    """The image with another version in its descriptor."""
    at = image.index(VERSION_MARK) + len(VERSION_MARK)
    text = version.encode().ljust(VERSION_BYTES, b"\0")
    assert len(text) == VERSION_BYTES
    return image[:at] + text + image[at + VERSION_BYTES :]


def noted(folder):
    """The partition that boots, as ESP-IDF's bootloader reads its note; without a note, the first."""
    file = folder / "otadata.bin"
    note = file.read_bytes() if file.exists() else b""
    valid = [0]
    for start in (0, SECTOR):
        if len(entry := note[start : start + 32]) == 32:
            number, state, checksum = struct.unpack("<I20xII", entry)
            # `esp_rom_crc32_le(UINT32_MAX, ..)`
            good = checksum == zlib.crc32(entry[:4], 0xFFFFFFFF)
            if number not in (0, 0xFFFFFFFF) and state not in (3, 4) and good:
                valid.append(number)
    return IMAGES[1 - max(valid) % 2 if max(valid) else 0]


class Machine:
    """An emulated device that runs, through restarts of its own. Its lines come in order."""

    def __init__(self, sensor, *options):
        self.sensor, self.options = sensor, options
        self.lines, self.seen = queue.Queue(), []
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.start()
        threading.Thread(target=self.read, daemon=True).start()

    def start(self):
        """What a bootloader does."""
        folder, options = self.sensor.folder, self.options
        place = noted(folder)
        self.lines.put(f"bootloader {place}")
        network = "user,id=n0,restrict=on"
        ports = ((self.sensor.broker.port, self.sensor.reaches), (self.sensor.broker.https_port,) * 2)
        for port, reaches in ports:
            pipe = f"{sys.executable} {HERE / 'pipe.py'} {reaches}"
            network += f",guestfwd=tcp:10.0.2.100:{port}-cmd:{pipe}"
        self.process = subprocess.Popen(
            [
                "qemu-system-riscv32", "-M", "virt", "-cpu", "rv32", "-bios", "none", "-m", "64M",
                "-display", "none", "-monitor", "none", "-serial", "null",
                "-semihosting-config", f"enable=on,target=native,arg=sensor,arg={place}",
                "-global", "virtio-mmio.force-legacy=false", "-no-reboot",
                "-device", "virtio-net-device,netdev=n0", "-device", "virtio-rng-device", "-netdev", network,
                "-kernel", f"{place}.bin", *options,
            ],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def read(self):
        while True:
            for line in self.process.stdout:
                self.lines.put(line.rstrip())
            restarts = self.process.wait(10) == 0
            with self.lock:
                if self.ending.is_set() or not restarts:
                    break
                self.start()
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
        with self.lock:
            self.ending.set()
            self.process.kill()
        self.process.wait(10)


class Sensor:
    """A device: its flash, and the machine that runs now."""

    def __init__(self, serial, folder, firmware, broker):
        self.serial, self.folder, self.firmware, self.broker = serial, folder, firmware, broker
        self.machine = None
        # Which port the network leads to. Another one: the broker is not there.
        self.reaches = broker.port
        image = firmware.read_bytes()
        (folder / "ota_0.bin").write_bytes(image.ljust(IMAGE_BYTES, b"\xff"))

    def thing(self):
        return f"sensor-{self.serial}"

    def boot(self, *options):
        self.machine = Machine(self, *options)
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

    def make(serial, root="pki/root-ca.crt", form="cbor", token=None):
        folder = tmp_path / serial
        folder.mkdir()
        begins = ["--credential", str(broker.folder / "claims" / "line-1")]
        if token:
            secret = folder / "token"
            secret.touch(mode=0o600)
            secret.write_text(token)
            url = f"https://localhost:{broker.https_port}/provision"
            begins = ["--token-file", str(secret), "--token-url", url]
        assert signet_factory.main([
            "nvs", f"--serial={serial}", *begins,
            "--broker", f"localhost:{broker.port}", "--server-ca", str(broker.folder / root),
            "--template", "fleet", "--rotation-template", "rotate", "--format", form,
            "--ota-key", str(broker.folder / "ota.pub"),
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
        self.client.on_message = lambda _, __, message: self.heard.put((message.topic, message.payload.decode(errors="replace")))
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

    def until_online(self, device):
        """The device says that it is there; before that it has asked for its commands."""
        while self.until(f"devices/{device}/status") != "online":
            pass

    def forget(self):
        """Forgets what came so far."""
        with self.heard.mutex:
            self.heard.queue.clear()

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
