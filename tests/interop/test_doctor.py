"""What `signet doctor` calls a certificate's trouble is what `openssl verify` calls it, number by number."""

import json
import re
import subprocess

import pytest
from harness import programs
from harness.waiting import DEADLINE, Lines

pytestmark = pytest.mark.needs("doctor")

_ERROR = re.compile(r"^error (\d+) at (\d+) depth lookup: (.*)$", re.MULTILINE)
_ACCEPT = re.compile(r"ACCEPT .*:(\d+)$")


def verify(chain, ca, *options):
    """The errors of `openssl verify`, each as number and words, in its order."""
    argv = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", ca, *options, "-untrusted", chain, chain]
    done = subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    errors = [(int(number), words.strip()) for number, _, words in _ERROR.findall(done.stderr + done.stdout)]
    assert bool(errors) == (done.returncode != 0), done.stderr
    return errors


@pytest.fixture
def doctor(signet_binary):
    def ask(chain, *options):
        argv = [signet_binary, "doctor", chain, "--json", *options]
        done = subprocess.run(
            [str(part) for part in argv], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        report = json.loads(done.stdout)
        assert report["good"] == (done.returncode == 0)
        return report

    return ask


def numbered(report):
    """The findings that OpenSSL has a number for."""
    return {(found["openssl"]["number"], found["openssl"]["name"]) for found in report["findings"] if found["openssl"]}


@pytest.mark.parametrize(
    ("role", "number"),
    [
        ("sensor-001", None),
        ("expired", 10),
        ("not-yet-valid", 9),
        ("revoked", 23),
        ("wrong-eku", 26),
        ("server", 26),
        ("foreign-ca", 20),
    ],
)
def test_each_role_has_the_number_that_openssl_has_for_it(pki, doctor, role, number):
    ca = pki.bundle(pki.root, pki.issuing)
    ours = numbered(doctor(pki.chain(role), "--ca", ca, "--crl", pki.crl))
    theirs = verify(pki.chain(role), ca, "-crl_check", "-CRLfile", pki.crl)
    if role == "foreign-ca":
        # No list of an authority that is not trusted, which OpenSSL complains of first.
        theirs = verify(pki.chain(role), ca)
    if number is None:
        assert ours == set()
        assert theirs == []
    else:
        assert [found for found in ours if found[0] == number], ours
        assert [found for found in theirs if found[0] == number], theirs
        assert {found for found in ours if found[0] == number} == {found for found in theirs if found[0] == number}


def test_a_missing_signer_is_error_20_where_nobody_has_it_and_error_2_above_a_trusted_intermediate(pki, doctor):
    alone = pki.leaf("sensor-001")
    for ca, number, good in [(pki.root, 20, False), (pki.issuing, 2, True)]:
        report = doctor(alone, "--ca", ca)
        theirs = verify(alone, ca)
        assert theirs[0][0] == number
        assert theirs[0] in numbered(report)
        # Signet takes a trusted intermediate as it is.
        assert report["good"] is good
        if good:
            assert verify(alone, ca, "-partial_chain") == []
    missing = next(found for found in doctor(alone, "--ca", pki.root)["findings"] if found["code"] == "missing-issuer")
    assert "issuing CA" in missing["text"]


def test_certificates_that_sign_themselves_are_errors_18_and_19(pki, doctor):
    report = doctor(pki.foreign_root, "--ca", pki.root)
    assert verify(pki.foreign_root, pki.root)[0] in numbered(report)
    chain = pki.bundle(pki.leaf("foreign-ca"), pki.foreign_root)
    report = doctor(chain, "--ca", pki.root)
    assert verify(chain, pki.root)[0] in numbered(report)


def openssl(directory, *arguments):
    argv = ["openssl", *(str(part) for part in arguments)]
    subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=DEADLINE, check=True)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """Authorities and devices as somebody makes them by hand, some of them wrong."""
    directory = tmp_path_factory.mktemp("lesson")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(directory, "req", "-x509", *new, "-days", 30, "-subj", "/CN=Root", "-keyout", "root.key", "-out", "root.crt")

    def issue(name, issuer, extensions, *options):
        openssl(directory, "req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / f"{name}.ext").write_text(extensions)
        signer = ("-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", 20)
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signer, "-extfile", f"{name}.ext", *options,
                "-out", f"{name}.crt")

    authority = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
    device = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n"
    issue("issuing", "root", authority)
    issue("below", "issuing", authority)
    issue("no-authority", "root", "basicConstraints=critical,CA:FALSE\n")
    issue("deep", "below", device)
    issue("misused", "no-authority", device)
    issue("plain", "issuing", device)
    return directory


def chain_of(lesson, *names):
    path = lesson / f"{'+'.join(names)}-chain.crt"
    path.write_text("".join((lesson / f"{name}.crt").read_text() for name in names))
    return path


@pytest.mark.parametrize(
    ("names", "number"),
    [(("plain", "issuing"), None), (("deep", "below", "issuing"), 25), (("misused", "no-authority"), 79)],
)
def test_chains_made_by_hand_are_judged_alike(lesson, doctor, names, number):
    chain, root = chain_of(lesson, *names), lesson / "root.crt"
    report, theirs = doctor(chain, "--ca", root), verify(chain, root)
    if number is None:
        assert theirs == []
        assert report["good"]
    else:
        assert number in [found[0] for found in theirs], theirs
        assert number in [found[0] for found in numbered(report)], report["findings"]
        assert not report["good"]


@pytest.fixture
def s_server(pki):
    """The port of an `openssl s_server` that wants a certificate of ours."""
    argv = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", pki.leaf("server"), "-key", pki.key("server")]
    argv += ["-cert_chain", pki.chain("server"), "-CAfile", pki.bundle(pki.root, pki.issuing), "-Verify", "3"]
    argv += ["-verify_return_error"]
    process = programs.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = Lines(process.stdout).wait_for(_ACCEPT.match, what="the port of s_server")
        yield int(said[1])
    finally:
        programs.stop(process)


def test_a_server_of_openssl_is_seen_as_a_device_would_see_it(pki, doctor, s_server):
    client = ("--cert", pki.chain("sensor-001"), "--key", pki.key("sensor-001"))
    report = doctor(f"localhost:{s_server}", "--ca", pki.root, *client, "--timeout", 2)
    codes = {found["code"] for found in report["findings"] if found["severity"] == "error"}
    # It asks for the certificate and takes it, and is no MQTT server.
    assert codes == {"mqtt-silent"}, report["findings"]
    assert {"TLS 1.3", "TLS 1.2", "asks for"} <= {fact["topic"] for fact in report["facts"]}


def test_a_refusal_of_openssl_is_put_into_words(pki, doctor, s_server):
    client = ("--cert", pki.chain("foreign-ca"), "--key", pki.key("foreign-ca"))
    report = doctor(f"localhost:{s_server}", "--ca", pki.root, *client, "--timeout", 2)
    refused = [found["text"] for found in report["findings"] if found["code"] == "client-refused"]
    assert refused, report["findings"]
    assert all("unknown_ca(48)" in text for text in refused)
