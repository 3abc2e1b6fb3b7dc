"""A Mosquitto lesson's own files: certificates of X.509 version 1, for the server and the devices, as plain
`openssl x509 -req` of OpenSSL 3.0 makes them, and the mosquitto.conf that goes with them."""

import subprocess

import pytest
from harness import programs
from harness.brokers import ACL, Mosquitto, free_port
from harness.clients import KINDS, Dial, Refused
from harness.waiting import DEADLINE, Lines

CLIENTS = ["mosquitto-3.1.1", "mosquitto-5"]


class Lesson:
    """What somebody who follows the lesson has in a folder."""

    def __init__(self, directory):
        self.directory = directory
        self.authority("ca")
        self.authority("foreign-ca")
        for name in ("localhost", "sensor-001", "admin"):
            self.issue(name, "ca")
        self.issue("sensor-002", "foreign-ca")
        self.port = free_port()
        self.conf = directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "cafile ca.crt",
            "certfile localhost.crt",
            "keyfile localhost.key",
            "require_certificate true",
            "use_identity_as_username true",
            f"acl_file {ACL}",
            # So that a machine with a low limit of open files can run it.
            "max_connections 200",
        ]
        self.conf.write_text("\n".join(lines) + "\n")

    def openssl(self, *arguments):
        argv = ["openssl", *(str(part) for part in arguments)]
        done = subprocess.run(argv, cwd=self.directory, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return done.stdout

    def authority(self, name):
        new = ("-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 30, "-subj", "/CN=Lesson CA")
        self.openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.crt")

    def issue(self, name, authority):
        new = ("-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
        self.openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signer = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", 30)
        self.openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.crt")

    def version(self, name):
        text = self.openssl("x509", "-in", f"{name}.crt", "-noout", "-text")
        return next(line.split()[1] for line in text.splitlines() if "Version:" in line)

    def dial(self, name, **settings):
        cert, key = (self.directory / f"{name}.{kind}" for kind in ("crt", "key"))
        ca = self.directory / "ca.crt"
        return Dial(self.port, f"client-of-{name}", ca, cert, key, None, extra={"name": name, **settings})


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    made = Lesson(tmp_path_factory.mktemp("lesson"))
    if made.version("sensor-001") != "1":
        pytest.skip("this OpenSSL makes certificates of version 3 without being asked")
    return made


@pytest.fixture(scope="module")
def running(lesson, broker_kind):
    """The broker on the lesson's mosquitto.conf."""
    if broker_kind is Mosquitto:
        # It gives up root's rights, and with them its right to read the key, unless it is told not to.
        lesson.conf.write_text(lesson.conf.read_text() + "user root\n")
        argv, ready = ["/usr/sbin/mosquitto", "-v", "-c", lesson.conf], "running"
    else:
        argv, ready = [broker_kind.binary, "run", "--mosquitto-conf", lesson.conf], "listening"
    process = programs.start(argv, cwd=lesson.directory, stderr=subprocess.PIPE)
    log = Lines(process.stderr)
    try:
        log.wait_for(lambda line: True if ready in line else None, what="the broker's start")
        yield log
    finally:
        programs.stop(process)


@pytest.fixture
def connect(lesson, running):
    started = []

    def dial(kind, name, **settings):
        client = KINDS[kind].make()
        started.append(client)
        return client.connect(lesson.dial(name, **settings))

    yield dial
    for client in started:
        client.die()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", CLIENTS)
def test_the_lessons_devices_connect_under_their_names(kind, version, connect, unique):
    operator = connect("mosquitto-5", "admin")
    own, others = f"devices/sensor-001/telemetry/{unique}", f"devices/sensor-002/telemetry/{unique}"
    operator.subscribe(f"devices/+/telemetry/{unique}", 1)
    device = connect(kind, "sensor-001", tls_max=version)
    device.publish(others, "not mine", 1)
    device.publish(own, "mine", 1)
    assert operator.topics_until(own) == [own]
    command = f"devices/sensor-001/commands/{unique}"
    device.subscribe(command, 1)
    operator.publish(command, "do it", 1)
    assert device.message(command).payload == "do it"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_device_of_an_authority_with_the_same_name_is_refused(kind, version, connect):
    with pytest.raises(Refused):
        connect(kind, "sensor-002", tls_max=version)


@pytest.mark.needs("failure records")
def test_without_the_switch_the_start_is_refused_with_the_way_out(lesson, broker_kind):
    argv = [broker_kind.binary, "import", "mosquitto", lesson.conf]
    report = subprocess.run(
        argv, cwd=lesson.directory, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert 'x509-v1 = "accept"' in report.stdout
    toml = lesson.directory / "signet.toml"
    toml.write_text(
        "[[listener]]\n"
        'address = "127.0.0.1:0"\n'
        'certificate = "localhost.crt"\n'
        'private-key = "localhost.key"\n'
        'client-ca = ["ca.crt"]\n'
        "max-connections = 200\n\n"
        f'[acl]\nfile = "{ACL}"\n'
    )
    argv = [broker_kind.binary, "run", "--config", toml]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0
    for part in ("version 1", "-extfile", "x509-v1"):
        assert part in done.stderr
