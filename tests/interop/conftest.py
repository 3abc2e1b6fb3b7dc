"""Fixtures: the development PKI, the brokers, and the clients of one test."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import differences
import pytest
from harness import brokers, clients
from harness.clients import Dial
from harness.pki import Pki


def pytest_addoption(parser):
    parser.addoption("--broker", choices=sorted(brokers.KINDS), default="signet", help="the broker to try")
    parser.addoption("--signet", default=os.environ.get("SIGNET_BIN"), help="Signet's binary")


def pytest_report_header(config):
    return f"broker: {config.getoption('--broker')}"


def pytest_runtest_setup(item):
    absent = differences.ABSENT[item.config.getoption("--broker")]
    for marker in item.iter_markers("needs"):
        for what in marker.args:
            if what in absent:
                pytest.skip(absent[what])


@pytest.fixture(scope="session")
def signet_binary(request):
    binary = request.config.getoption("--signet")
    if binary is None:
        pytest.exit("say which Signet: SIGNET_BIN or --signet (tests/interop/run builds one)", 2)
    return Path(binary).resolve()


@pytest.fixture(scope="session")
def pki(tmp_path_factory, request):
    """The project's own development PKI, made anew for this run."""
    directory = tmp_path_factory.mktemp("pki")
    ready = os.environ.get("INTEROP_PKI")
    if ready:
        shutil.copytree(ready, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("v", "*.py"))
    else:
        binary = request.getfixturevalue("signet_binary")
        subprocess.run([binary, "dev", "--dir", directory, "--no-run"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    return Pki(directory, tmp_path_factory.mktemp("der"))


@pytest.fixture(scope="session")
def broker_kind(request):
    kind = brokers.KINDS[request.config.getoption("--broker")]
    if kind is brokers.Signet:
        kind.binary = request.getfixturevalue("signet_binary")
    return kind


@pytest.fixture(scope="session")
def broker_with(broker_kind, pki, tmp_path_factory):
    """Starts a broker for a profile, once for all tests that ask for the same."""
    running = {}

    def with_profile(profile):
        if profile not in running:
            directory = tmp_path_factory.mktemp(f"broker-{profile.name}")
            running[profile] = broker_kind(profile, pki, directory).start()
        assert running[profile].alive(), "the broker ended during an earlier test"
        return running[profile]

    yield with_profile
    for broker in running.values():
        broker.stop()


@pytest.fixture
def broker(broker_with):
    """The broker of the lesson: mTLS, the certificate's name as the user, the lesson's policy."""
    return broker_with(brokers.Profile())


@pytest.fixture
def own_broker_with(broker_kind, pki, tmp_path):
    """Starts a broker for this test alone: failure records are rate-limited by address, and all tests have one."""
    started = []

    def with_profile(profile):
        started.append(broker_kind(profile, pki, tmp_path).start())
        return started[-1]

    yield with_profile
    for broker in started:
        broker.stop()


@pytest.fixture
def own_broker(own_broker_with):
    return own_broker_with(brokers.Profile())


@pytest.fixture
def connect(pki):
    """Connects a client of the matrix; all of them are ended with the test."""
    started = []

    def dial(kind, broker, certificate="sensor-001", *, leaf_only=False, client_id=None, will=None, ca=None, **settings):
        client = kind.make()
        started.append(client)
        cert = None
        if certificate:
            cert = pki.leaf(certificate) if leaf_only else pki.chain(certificate)
        host = settings.pop("host", "localhost")
        request = Dial(
            port=broker.port,
            client_id=client_id or f"{kind.name}-{uuid.uuid4().hex[:8]}",
            ca=ca or pki.root,
            cert=cert,
            key=pki.key(certificate) if certificate else None,
            pki=pki,
            host=host,
            will=will,
            extra=settings,
        )
        client.client_id = request.client_id
        return client.connect(request)

    yield dial
    for client in started:
        client.die()


@pytest.fixture
def operator(connect, broker):
    """The operator `admin` at the other end: paho, MQTT 5.0."""
    return connect(clients.KINDS["paho-5"], broker, "admin", client_id=f"operator-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def unique():
    """A topic level that no other test uses."""
    return uuid.uuid4().hex[:12]
