"""The broker's own authority: what it issues and revokes in the eyes of OpenSSL, with its key in a file and in a token."""

import os
import shutil
import subprocess
import time
import urllib.request

import pytest
from harness.house import House
from harness.waiting import DEADLINE

pytestmark = pytest.mark.needs("authority")

MODULES = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
]
PIN = "135790"

# A module that is SoftHSM, but for two functions (C_OpenSession and C_Sign, by their places in CK_FUNCTION_LIST) that do not
# come back as long as a file is there.
SLOW_MODULE = """
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
typedef unsigned long (*any)(unsigned long, unsigned long, void *, unsigned long, void *);
static struct { unsigned char version[2]; any functions[68]; } list;
static any open_session, sign;
static void wait_for_it(void) { while (access(HELD, F_OK) == 0) usleep(20000); }
static unsigned long slow_open(unsigned long a, unsigned long b, void *c, unsigned long d, void *e)
{ wait_for_it(); return open_session(a, b, c, d, e); }
static unsigned long slow_sign(unsigned long a, unsigned long b, void *c, unsigned long d, void *e)
{ wait_for_it(); return sign(a, b, c, d, e); }
unsigned long C_GetFunctionList(void **out)
{
    void *module = dlopen(MODULE, RTLD_NOW);
    unsigned long (*get)(void **) = module ? (unsigned long (*)(void **))dlsym(module, "C_GetFunctionList") : 0;
    void *there;
    if (!get || get(&there)) return 5;
    memcpy(&list, there, sizeof list);
    open_session = list.functions[12]; list.functions[12] = slow_open;
    sign = list.functions[43]; list.functions[43] = slow_sign;
    *out = &list;
    return 0;
}
"""


@pytest.fixture
def house(tmp_path, request, pki):
    made = House(tmp_path, request.getfixturevalue("signet_binary"), pki)
    yield made
    made.stop()


@pytest.fixture
def token(house):
    """SoftHSM with one token, and the settings that name it."""
    module = next((path for path in MODULES if os.path.exists(path)), None)
    assert module, "SoftHSM is not where Debian puts it"
    (house.directory / "tokens").mkdir()
    conf = house.directory / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {house.directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    house.env = {"SOFTHSM2_CONF": str(conf)}
    argv = ["softhsm2-util", "--init-token", "--free", "--label", "fleet", "--so-pin", "24680246", "--pin", PIN]
    subprocess.run(argv, env={**os.environ, **house.env}, check=True, capture_output=True, timeout=DEADLINE)
    write_pin(house, PIN)
    return [
        f'pkcs11-module = "{module}"',
        'pkcs11-token = "fleet"',
        'pkcs11-key = "issuing"',
        'pkcs11-pin-file = "pin"',
    ]


def write_pin(house, pin):
    path = house.path("pin.new")
    path.write_text(pin + "\n")
    path.chmod(0o600)
    path.rename(house.path("pin"))


def life_of_a_device(house, name):
    house.ask("device", "add", name, "--key", "--out", "out")
    assert house.publish(name)
    house.wait_for_verdict(name, "OK")
    house.ask("device", "revoke", name)
    assert "certificate revoked" in house.wait_for_verdict(name, "revoked")
    assert not house.publish(name)


def test_openssl_agrees_with_what_is_issued_and_revoked(house):
    house.configure()
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    house.start()
    life_of_a_device(house, "sensor-001")
    house.ask("device", "add", "sensor-002", "--key", "--out", "out")
    house.wait_for_verdict("sensor-002", "OK")
    with urllib.request.urlopen(f"http://127.0.0.1:{house.metrics_port}/crl", timeout=DEADLINE) as answer:
        assert answer.headers["Content-Type"] == "application/pkix-crl"
        served = answer.read()
    argv = ["openssl", "crl", "-in", "ca/issuing.crl", "-outform", "DER"]
    written = subprocess.run(argv, cwd=house.directory, check=True, capture_output=True, timeout=DEADLINE).stdout
    assert served == written
    argv = ["openssl", "crl", "-in", "ca/issuing.crl", "-noout", "-text", "-CAfile", "ca/issuing.crt"]
    done = subprocess.run(argv, cwd=house.directory, check=True, capture_output=True, text=True, timeout=DEADLINE)
    assert "verify OK" in done.stderr
    assert "CRL Number" in done.stdout and "Authority Key Identifier" in done.stdout


@pytest.mark.parametrize("kind", ["p-256", "p-384"])
def test_an_authority_lives_in_a_token(house, token, kind):
    house.configure(*token)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root", "--key-kind", kind)
    assert not house.path("ca/issuing.key").exists()
    house.start()
    life_of_a_device(house, "sensor-001")
    # The key is in the token and not in the process: another process goes on with it.
    house.stop()
    house.start()
    life_of_a_device(house, "sensor-002")
    # Its certificate and the key in the token are an authority elsewhere too.
    house.configure('directory = "taken"', *token)
    house.run("ca", "init", "--config", "signet.toml", "--certificate", "ca/issuing.crt")
    house.ask("reload")
    house.ask("device", "add", "sensor-003", "--key", "--out", "out")
    assert house.publish("sensor-003")


def test_an_rsa_key_that_was_in_the_token_before_is_used(house, token):
    """As with a key that the owner of the HSM made with its own tools."""
    pair = house.path("rsa.pem")
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", pair]
    subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)
    argv = ["softhsm2-util", "--import", pair, "--token", "fleet", "--label", "issuing", "--id", "01", "--pin", PIN]
    subprocess.run(argv, env={**os.environ, **house.env}, check=True, capture_output=True, timeout=DEADLINE)
    house.configure(*token)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root", "--existing-key")
    house.start()
    life_of_a_device(house, "sensor-001")


def test_what_is_wrong_with_a_token_is_said_with_what_to_do(house, token):
    def refused(lines, *arguments):
        house.configure(*lines)
        return house.run("ca", "init", "--config", "signet.toml", "--root", "root", *arguments, code=1)

    def but(name, value):
        return [f'{name} = "{value}"' if line.startswith(name) else line for line in token]

    for lines, arguments, parts in [
        (but("pkcs11-module", "/nonexistent.so"), [], ["/nonexistent.so", "cannot be loaded", "driver"]),
        (but("pkcs11-token", "other"), [], ['"other"', '"fleet"', "serial number"]),
        ([line for line in token if "pin-file" not in line], [], ["wants a PIN", "pkcs11-pin-file"]),
        (token, ["--existing-key"], ['no private key "issuing"', "none at all"]),
    ]:
        said = refused(lines, *arguments)
        assert all(part in said for part in parts) and "hint" in said, said
    write_pin(house, "000000")
    assert "refuses this PIN" in refused(token)
    # It is not tried again, and a service that starts again and again does not lock its token.
    assert "has refused this PIN before" in refused(token)
    write_pin(house, PIN)
    house.configure(*token)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    # A key that the certificate does not go with is found at the start.
    house.run("ca", "init", "--directory", "ca2", "--root", "root2")
    shutil.copy(house.path("ca2/issuing.crt"), house.path("ca/issuing.crt"))
    assert "private key" in house.run("run", "--config", "signet.toml", code=1)


def test_a_token_that_goes_and_comes_back_is_found_again(house, token):
    house.configure(*token)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    house.start()
    house.ask("device", "add", "sensor-001", "--key", "--out", "out")
    house.path("tokens").rename(house.path("gone"))
    said = house.run("device", "add", "sensor-002", "--key", "--out", "out", "--config", "signet.toml", code=1)
    assert "no token is called" in said or "key cannot be reached" in said, said
    # Who has a certificate is not concerned.
    assert house.publish("sensor-001")
    house.path("gone").rename(house.path("tokens"))
    house.ask("device", "add", "sensor-002", "--key", "--out", "out")
    assert house.publish("sensor-002")


def slow(house, token):
    """The settings with a module that hangs while the file `held` is there."""
    module = next(line.split('"')[1] for line in token if line.startswith("pkcs11-module"))
    source, library = house.path("slow.c"), house.path("slow.so")
    source.write_text(SLOW_MODULE)
    argv = ["cc", "-shared", "-fPIC", "-o", library, source, f'-DMODULE="{module}"', f'-DHELD="{house.path("held")}"', "-ldl"]
    subprocess.run(argv, check=True, capture_output=True, timeout=DEADLINE)
    return [f'pkcs11-module = "{library}"' if line.startswith("pkcs11-module") else line for line in token]


def test_a_token_that_hangs_holds_up_no_start_no_reload_and_no_connection(house, token):
    lines = slow(house, token)
    house.configure(*lines)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    house.path("held").touch()
    began = time.monotonic()
    said = house.run("run", "--config", "signet.toml", code=1)
    assert "did not answer within 10 seconds" in said and "hint" in said, said
    assert time.monotonic() - began < 25
    house.path("held").unlink()
    house.start()
    house.ask("device", "add", "sensor-001", "--key", "--out", "out")
    house.path("held").touch()
    began = time.monotonic()
    said = house.run("device", "add", "sensor-002", "--key", "--out", "out", "--config", "signet.toml", code=1)
    assert "did not answer within 10 seconds" in said, said
    # Nobody waits for it a second time, and who has a certificate connects.
    waited = time.monotonic()
    said = house.run("device", "add", "sensor-003", "--key", "--out", "out", "--config", "signet.toml", code=1)
    assert "is asked nothing more until it does" in said, said
    assert time.monotonic() - waited < 5
    assert house.publish("sensor-001")
    # A reload that does not touch the authority is done at once, and one that does is refused with the reason.
    waited = time.monotonic()
    house.ask("reload")
    assert time.monotonic() - waited < 5
    house.configure("crl-validity = \"8d\"", *lines)
    said = house.run("reload", "--config", "signet.toml", code=1)
    assert "is asked nothing more until it does" in said, said
    assert "did not answer" in house.run("audit", "list", "--config", "signet.toml")
    house.path("held").unlink()
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            house.ask("reload")
            break
        except AssertionError:
            time.sleep(0.2)
    house.ask("device", "add", "sensor-002", "--key", "--out", "out")
    assert house.publish("sensor-002")


def test_the_key_of_an_authority_moves_from_one_hsm_to_another(house, token):
    house.configure(*token)
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    house.start()
    house.ask("device", "add", "sensor-001", "--key", "--out", "out")
    house.ask("device", "add", "sensor-002", "--key", "--out", "out")
    argv = ["softhsm2-util", "--init-token", "--free", "--label", "fleet-2", "--so-pin", "24680246", "--pin", PIN]
    subprocess.run(argv, env={**os.environ, **house.env}, check=True, capture_output=True, timeout=DEADLINE)
    second = ['pkcs11-token = "fleet-2"' if line.startswith("pkcs11-token") else line for line in token]
    flags = [part for line in second for part in ("--" + line.split(" = ")[0], line.split('"')[1])]
    house.run("ca", "init", "--directory", "ca2", "--root", "root2", "--name", "Second", *flags)
    house.stop()
    # SoftHSM sees tokens that were made meanwhile only when it begins anew, as many do.
    house.configure('directory = "ca2"', *second, "", "[[ca-previous]]", 'directory = "ca"', *token)
    trusted = house.path("signet.toml")
    trusted.write_text(trusted.read_text().replace('"ca/issuing.crt"', '"ca/issuing.crt", "ca2/issuing.crt"'))
    house.start()
    house.ask("device", "add", "sensor-003", "--key", "--out", "out")
    assert house.publish("sensor-001") and house.publish("sensor-003")
    # The list of the first is still signed by the first token.
    before = house.path("ca/issuing.crl").read_text()
    house.ask("device", "revoke", "sensor-002")
    deadline = time.monotonic() + DEADLINE
    while house.path("ca/issuing.crl").read_text() == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    argv = ["openssl", "crl", "-in", house.path("ca/issuing.crl"), "-CAfile", house.path("ca/issuing.crt"), "-noout", "-text"]
    told = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=DEADLINE)
    assert "verify OK" in told.stdout + told.stderr and "Serial Number" in told.stdout
