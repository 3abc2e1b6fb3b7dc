"""The unit that is shipped, under a real systemd: a broker that aborts, or whose threads hang, is started again.

A panic in work that the process cannot go on without ends it by abort(), which is what is sent here. systemd runs as the manager
of a user, in a mount namespace of its own, so the settings of the unit that confine the broker are left out.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import programs
from harness.house import House
from harness.waiting import DEADLINE

pytestmark = pytest.mark.needs("authority")

UNIT = Path(__file__).resolve().parents[2] / "config" / "signet.service"
SYSTEMD = Path("/lib/systemd/systemd")
# How the broker is started, watched and started again; the rest confines it.
KEPT = ("Type", "NotifyAccess", "TimeoutStartSec", "Restart", "RestartSec", "TimeoutStopSec")
# Instead of the unit's 30 s.
WATCHDOG_SECONDS = 3
# systemd --user looks for this folder to see whether systemd runs the machine.
MANAGER = f"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {SYSTEMD} --user --log-target=console"


class Manager:
    """systemd as the manager of a user."""

    def __init__(self, directory):
        self.environment = {"XDG_RUNTIME_DIR": str(directory), "XDG_CONFIG_HOME": str(directory)}
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MANAGER]
        self.process = programs.start(argv, env=self.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.until("is-system-running", lambda said: said in ("running", "degraded"))

    def run(self, *arguments):
        argv = ["nsenter", "--target", str(self.process.pid), "--mount", "systemctl", "--user", *arguments]
        environment = {**os.environ, **self.environment}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=DEADLINE)

    def until(self, command, wanted):
        end = time.monotonic() + DEADLINE
        while not wanted(said := self.run(*command.split()).stdout.strip()):
            assert self.process.poll() is None and time.monotonic() < end, f"{command}: {said}"
            time.sleep(0.05)
        return said

    def show(self, name):
        return self.run("show", "--value", "--property", name, "signet").stdout.strip()


@pytest.fixture
def manager(tmp_path):
    if os.geteuid() != 0 or not SYSTEMD.exists():
        pytest.skip("systemd as the manager of a user needs root here, for a mount namespace, and the package systemd")
    made = Manager(tmp_path)
    yield made
    made.run("exit")
    programs.stop(made.process)


def settings():
    """The lines of the shipped unit that say how the broker is started again."""
    lines = UNIT.read_text().splitlines()
    kept = [line for line in lines if line.partition("=")[0] in KEPT]
    assert len(kept) == len(KEPT), kept
    assert re.search(r"^WatchdogSec=\d+s$", UNIT.read_text(), re.MULTILINE)
    return kept


def test_a_broker_that_aborts_or_hangs_is_started_again_and_one_that_is_stopped_is_not(
    manager, tmp_path, signet_binary, pki
):
    house = House(tmp_path / "house", signet_binary, pki)
    house.directory.mkdir()
    house.configure()
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    unit = ["[Service]", *settings(), f"WatchdogSec={WATCHDOG_SECONDS}s", f"WorkingDirectory={house.directory}"]
    unit.append(f"ExecStart={signet_binary} run --config signet.toml --ready-file ready")
    (tmp_path / "systemd" / "user").mkdir(parents=True, exist_ok=True)
    (tmp_path / "systemd" / "user" / "signet.service").write_text("\n".join(unit) + "\n")
    manager.run("daemon-reload")
    started = manager.run("start", "signet")
    assert started.returncode == 0, started.stderr

    def serves(restarts):
        manager.until("show --value --property NRestarts signet", lambda said: said == str(restarts))
        manager.until("is-active signet", lambda said: said == "active")
        house.port = int(house.path("ready").read_text().split()[0].rsplit(":", 1)[1])
        return house.publish("sensor-001")

    house.port = int(house.path("ready").read_text().split()[0].rsplit(":", 1)[1])
    house.ask("device", "add", "sensor-001", "--key", "--out", "out")
    assert serves(0)
    for restarts, ended_by in enumerate((signal.SIGABRT, signal.SIGSTOP), start=1):
        before = time.monotonic()
        os.kill(int(manager.show("MainPID")), ended_by)
        assert serves(restarts), ended_by.name
        print(f"{ended_by.name}: serves again after {time.monotonic() - before:.1f} s")
    house.run("stop", "--config", "signet.toml")
    manager.until("show --value --property ActiveState signet", lambda said: said == "inactive")
    assert (manager.show("Result"), manager.show("MainPID")) == ("success", "0")
