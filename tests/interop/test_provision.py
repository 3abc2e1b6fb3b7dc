"""First boot by token: what the OpenAPI description says is what is answered, and a lesson's provisioning exercise."""

import os
import subprocess
from pathlib import Path

import pytest
from harness.enrolment import Door
from harness.house import House
from harness.waiting import DEADLINE

pytestmark = pytest.mark.needs("authority")

HERE = Path(__file__).resolve().parent
DESCRIPTION = HERE.parent.parent / "broker/docs/provision.openapi.json"
SCHEMATHESIS = HERE / ".work/schemathesis/bin/schemathesis"
# Requests that Schemathesis makes up for each operation and phase.
EXAMPLES = 60


@pytest.fixture(scope="module")
def door(tmp_path_factory, signet_binary, pki):
    house = House(tmp_path_factory.mktemp("provision"), signet_binary, pki)
    house.configure(more=[*Door.configuration(pki), "[limits]", "handshakes-per-address-per-second = 0"])
    try:
        house.run("ca", "init", "--config", "signet.toml", "--root", "root")
        house.start()
        house.ask("operator", "add", "ada", "--key", "--out", "out")
        yield Door(house)
    finally:
        house.stop()


def schemathesis(door, *more):
    """Runs every check of Schemathesis against the broker; it ends with 1 when one of them fails."""
    assert SCHEMATHESIS.exists(), "tests/interop/run installs it"
    argv = [SCHEMATHESIS, "run", DESCRIPTION, "--url", door.url, "--tls-verify", door.house.pki.root, "--checks", "all"]
    argv += ["--max-examples", EXAMPLES, "--seed", 20261121, *more]
    done = subprocess.run(
        [str(part) for part in argv], cwd=door.house.directory, capture_output=True, text=True, timeout=10 * DEADLINE
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "3 selected / 3 total" in done.stdout, done.stdout
    assert door.house.process.poll() is None, "the broker ended"
    return done.stdout


def test_the_description_is_true_for_somebody_without_a_certificate(door):
    schemathesis(door)
    assert door.house.ask("token", "list") == []


def test_the_description_is_true_for_an_operator(door):
    certificate = ["--request-cert", "out/ada/device-chain.crt", "--request-cert-key", "out/ada/device.key"]
    schemathesis(door, *certificate)
    tokens = door.house.ask("token", "list")
    assert tokens and all(token["state"] == "open" for token in tokens)


def test_the_lessons_third_exercise(signet_binary):
    script = HERE.parent / "lesson/exercise-3"
    done = subprocess.run(
        [str(script)],
        env={**os.environ, "SIGNET_BIN": str(signet_binary)},
        capture_output=True,
        text=True,
        timeout=5 * DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("passed")
