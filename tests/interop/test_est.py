"""EST (RFC 7030) with strongSwan's `pki`, and with curl and OpenSSL as a person would."""

import subprocess
import time
from pathlib import Path

import pytest
from harness import programs
from harness.enrolment import Door
from harness.house import House
from harness.waiting import DEADLINE

pytestmark = pytest.mark.needs("authority")

LABELS = [
    '[[est.label]]\nname = "daily"\nvalidity = "24h"',
    '[[est.label]]\nname = "lines"\ncolumns = 64',
    '[[est.label]]\nname = "hall"\napproval = true',
]


@pytest.fixture(scope="module")
def door(tmp_path_factory, signet_binary, pki):
    house = House(tmp_path_factory.mktemp("est"), signet_binary, pki)
    house.configure(more=Door.configuration(pki, *LABELS))
    try:
        house.run("ca", "init", "--config", "signet.toml", "--root", "root")
        house.start()
        yield Door(house)
    finally:
        house.stop()


def enrol_with_strongswan(door, device, file, label="", **variables):
    door.request(device, file)
    script = f'pki --est --url "$URL{label}" --cacert "$SERVER_CA" --in {file}.csr --userpass "{device}:$TOKEN"'
    token = variables.pop("TOKEN", None) or door.token(device)
    return door.shell(f"{script} --outform pem >{file}.crt", TOKEN=token, **variables)


def enrol_with_curl(door, device, file, path="simpleenroll", **how):
    """The way of RFC 7030's appendix: base64 of DER, and PKCS #7 back."""
    code = how.pop("code", 0)
    user = '-u "$DEVICE:$TOKEN"' if "TOKEN" in how else ""
    certificate = "--cert $CERT.crt --key $CERT.key" if "CERT" in how else ""
    script = (
        f"openssl req -in {file}.csr -outform DER | base64 -w0"
        f' | curl -sS --fail-with-body --cacert "$SERVER_CA" {user} {certificate} --data-binary @-'
        f" -H 'Content-Type: application/pkcs10' \"$URL/.well-known/est/{path}\" -o {file}.p7"
        f" && openssl base64 -d {'' if 'lines' in path else '-A'} -in {file}.p7"
        f" | openssl pkcs7 -inform DER -print_certs -out {file}.crt"
    )
    return door.shell(script, code=code, DEVICE=device, **how)


def test_strongswan_fetches_the_authoritys_certificates(door):
    door.shell('pki --estca --url "$URL" --cacert "$SERVER_CA" --caout est --outform pem --force')
    made = {door.house.path(name).read_text().strip() for name in ("root/root.crt", "ca/issuing.crt")}
    fetched = {path.read_text().strip() for path in door.house.directory.glob("est*.pem")}
    normal = lambda texts: {"".join(text.split()) for text in texts}  # noqa: E731
    assert normal(fetched) == normal(made)


def test_strongswan_enrols_with_a_token_and_renews_with_its_certificate(door):
    enrol_with_strongswan(door, "swan-1", "swan")
    assert "OK" in door.shell("openssl verify -CAfile root/root.crt -untrusted ca/issuing.crt -purpose sslclient swan.crt")
    assert door.connects("swan-1", "swan")
    door.request("swan-1", "swan2")
    door.shell(
        'pki --est --url "$URL" --cacert "$SERVER_CA" --cacert root/root.crt --cacert ca/issuing.crt'
        " --cert swan.crt --key swan.key --in swan2.csr --outform pem >swan2.crt"
    )
    assert door.statuses("swan-1") == ["active", "active"]
    assert door.connects("swan-1", "swan2"), "the new one"
    assert door.connects("swan-1", "swan"), "the old one for as long as the grace lasts"


def test_strongswan_is_refused_with_a_used_token_and_with_another_devices(door):
    token = door.token("swan-2")
    enrol_with_strongswan(door, "swan-2", "swan-2", TOKEN=token)
    for device in ("swan-2", "swan-3"):
        door.request(device, "refused")
        said = door.shell(
            f'! pki --est --url "$URL" --cacert "$SERVER_CA" --in refused.csr --userpass "{device}:$TOKEN" 2>&1', TOKEN=token
        )
        assert "HTTP 401" in said, said
    assert door.statuses("swan-2") == ["active"]


def test_strongswan_does_not_renew_under_another_name(door):
    enrol_with_strongswan(door, "swan-4", "swan-4")
    door.request("swan-5", "swan-5")
    said = door.shell(
        '! pki --est --url "$URL" --cacert "$SERVER_CA" --cacert root/root.crt --cacert ca/issuing.crt'
        " --cert swan-4.crt --key swan-4.key --in swan-5.csr 2>&1"
    )
    assert "HTTP 403" in said, said


def test_strongswan_asks_again_until_an_operator_has_approved(door):
    door.request("hall-1", "hall-1")
    script = 'pki --est --url "$URL/hall" --cacert "$SERVER_CA" --in hall-1.csr --userpass "hall-1:$TOKEN" --interval 1 --outform pem'
    asking = subprocess.Popen(
        **door.command(f"{script} >hall-1.crt", TOKEN=door.token("hall-1")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + DEADLINE
        while not (pending := door.house.ask("est", "pending")):
            assert time.monotonic() < end, "nothing waits"
        assert pending[0]["device"] == "hall-1" and pending[0]["label"] == "hall"
        door.house.ask("est", "approve", pending[0]["id"][:16])
        assert asking.wait(2 * DEADLINE) == 0
    finally:
        programs.kill(asking)
    assert door.connects("hall-1", "hall-1")


def test_curl_and_openssl_enrol_and_renew_for_a_day_at_a_time(door):
    door.request("curl-1", "curl-1")
    enrol_with_curl(door, "curl-1", "curl-1", "daily/simpleenroll", TOKEN=door.token("curl-1"))
    assert door.connects("curl-1", "curl-1")
    # At hour 18 and for six hours more it is in force, and not two days from now.
    door.shell("openssl x509 -in curl-1.crt -noout -checkend $((18 * 3600))")
    door.shell("! openssl x509 -in curl-1.crt -noout -checkend $((25 * 3600))")
    door.request("curl-1", "curl-2")
    enrol_with_curl(door, "curl-1", "curl-2", "daily/simplereenroll", CERT="curl-1")
    assert door.connects("curl-1", "curl-2")


def test_openssl_reads_an_answer_in_lines_where_the_label_says_so(door):
    door.request("curl-3", "curl-3")
    enrol_with_curl(door, "curl-3", "curl-3", "lines/simpleenroll", TOKEN=door.token("curl-3"))
    assert door.connects("curl-3", "curl-3")


def test_curl_sends_the_request_as_openssl_wrote_it(door):
    door.request("curl-4", "curl-4")
    door.shell(
        'curl -sS --fail-with-body --cacert "$SERVER_CA" -u "curl-4:$TOKEN" --data-binary @curl-4.csr'
        " -H 'Content-Type: application/pkcs10' \"$URL/.well-known/est/simpleenroll\""
        " | base64 -d | openssl pkcs7 -inform DER -print_certs -out curl-4.crt",
        TOKEN=door.token("curl-4"),
    )
    assert door.connects("curl-4", "curl-4")


def test_curl_is_told_in_words_what_is_missing(door):
    door.request("curl-5", "curl-5")
    nothing = enrol_with_curl(door, "curl-5", "curl-5", code=22)
    assert "401" in nothing
    assert "token" in door.house.path("curl-5.p7").read_text()
    enrol_with_curl(door, "curl-5", "curl-5", code=22, TOKEN="wrong")
    revoked = "curl-6"
    door.request(revoked, revoked)
    enrol_with_curl(door, revoked, revoked, TOKEN=door.token(revoked))
    door.house.ask("device", "revoke", revoked)
    assert "403" in enrol_with_curl(door, revoked, revoked, "simplereenroll", code=22, CERT=revoked)


def test_openssl_reads_the_attributes(door):
    said = door.shell(
        'curl -sS --cacert "$SERVER_CA" "$URL/.well-known/est/csrattrs" | base64 -d | openssl asn1parse -inform DER'
    )
    assert "id-ecPublicKey" in said and "prime256v1" in said and "ecdsa-with-SHA256" in said


FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.mark.skipif(not Path(FAKETIME).exists(), reason="libfaketime is elsewhere on this machine")
@pytest.mark.parametrize("minutes, status", [(1, 0), (61, 56)], ids=["within the grace", "after it"])
def test_a_device_that_slept_past_the_end_of_its_certificate_renews_it_within_the_grace(
    tmp_path, signet_binary, pki, minutes, status
):
    house = House(tmp_path, signet_binary, pki)
    house.configure(more=[*Door.configuration(pki), '[standing]\nexpired-grace = "1h"'])
    house.run("ca", "init", "--config", "signet.toml", "--root", "root")
    try:
        house.start()
        door = Door(house)
        door.request("late-1", "late")
        enrol_with_curl(door, "late-1", "late", TOKEN=door.token("late-1"))
        house.ask("operator", "add", "ada", "--key", "--out", "out")
        house.stop()
        # Certificates of 90 days ended so many minutes ago.
        house.env = {"LD_PRELOAD": FAKETIME, "FAKETIME": f"+{90 * 24 * 60 + minutes}m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        house.start()
        house.env = {}
        door = Door(house)
        door.request("late-1", "late2")
        said = enrol_with_curl(door, "late-1", "late2", "simplereenroll", CERT="late", code=status)
        if status == 0:
            assert door.statuses("late-1")[-1] == "active"
            said = door.shell(
                'curl -sS --cacert "$SERVER_CA" --cert out/ada/device-chain.crt --key out/ada/device.key'
                " -H 'Content-Type: application/json' -d '{\"device_id\": \"x\"}' \"$URL/generate-token\""
            )
            assert "the certificate has expired" in said, "an operator has nothing to recover"
        else:
            assert "alert" in said or "SSL" in said, said
    finally:
        house.stop()
