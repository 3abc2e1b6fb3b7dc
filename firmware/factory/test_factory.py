"""The tools of the line, tried. Run with pytest; requirements.txt has what they need."""

import datetime
import hashlib
import json
import pathlib
import struct
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import signet_factory

HERE = pathlib.Path(__file__).parent
PARTITIONS = HERE.parent / "board-esp" / "partitions-4mb.csv"


def certificate(name, key, ca=False):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


@pytest.fixture
def line(tmp_path):
    """A folder as signet writes it, and a root."""
    key = ec.generate_private_key(ec.SECP256R1())
    claim = tmp_path / "claim"
    claim.mkdir()
    (claim / "claim.crt").write_bytes(certificate("line-1", key))
    (claim / "claim-chain.crt").write_bytes(certificate("line-1", key))
    private = claim / "claim.key"
    private.touch(mode=0o600)
    private.write_bytes(pem(key))
    root_key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "root.pem").write_bytes(certificate("root", root_key, ca=True))
    return tmp_path


def nvs(line, *more, serial="sn-000123", credential=None):
    out = line / "factory.bin"
    code = signet_factory.main([
        "nvs", f"--serial={serial}", "--credential", str(credential or line / "claim"), "--broker", "localhost:8883",
        "--server-ca", str(line / "root.pem"), "--template", "fleet", "--rotation-template", "rotate",
        "--out", str(out), *more,
    ])  # fmt: skip
    return code, out


def test_a_claims_folder_becomes_a_factory_partition(line):
    code, out = nvs(line)
    assert code == 0
    image = out.read_bytes()
    assert len(image) == signet_factory.FACTORY_BYTES
    for text in (b"device_id", b"sn-000123", b"localhost:8883", b"claim_key", b"server_ca"):
        assert text in image
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("serial", ["", "a/b", "sn 1", "-x", "a" * 65, "sn\n1", "+"])
def test_a_serial_number_that_cannot_be_a_name_is_refused(line, serial, capsys):
    code, out = nvs(line, serial=serial)
    assert (code, out.exists()) == (1, False)
    assert "serial number" in capsys.readouterr().err


def test_a_port_that_is_none_is_refused(line, capsys):
    out = line / "factory.bin"
    code = signet_factory.main([
        "nvs", "--serial=sn-1", "--credential", str(line / "claim"), "--broker", "localhost:99999",
        "--server-ca", str(line / "root.pem"), "--template", "fleet", "--rotation-template", "rotate",
        "--out", str(out),
    ])  # fmt: skip
    assert (code, out.exists()) == (1, False)
    assert "1 to 65535" in capsys.readouterr().err


def test_an_image_takes_the_place_of_one_that_others_could_read(line):
    (line / "factory.bin").write_bytes(b"old")
    (line / "factory.bin").chmod(0o644)
    code, out = nvs(line)
    assert code == 0
    assert out.stat().st_mode & 0o077 == 0


def test_a_key_that_others_can_read_is_refused(line, capsys):
    (line / "claim" / "claim.key").chmod(0o644)
    code, out = nvs(line)
    assert (code, out.exists()) == (1, False)
    assert "chmod 600" in capsys.readouterr().err


def test_a_key_of_another_certificate_is_refused(line, capsys):
    (line / "claim" / "claim.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    code, out = nvs(line)
    assert (code, out.exists()) == (1, False)
    assert "not for this private key" in capsys.readouterr().err


def test_a_root_that_is_no_authority_is_refused(line, capsys):
    (line / "root.pem").write_bytes((line / "claim" / "claim.crt").read_bytes())
    code, out = nvs(line)
    assert (code, out.exists()) == (1, False)
    assert "not a certificate authority" in capsys.readouterr().err


def test_many_serial_numbers_make_many_partitions_and_one_that_is_there_twice_makes_none(line, capsys):
    serials = line / "serials.csv"
    common = [
        "nvs", "--serials", str(serials), "--credential", str(line / "claim"), "--broker", "b:1",
        "--server-ca", str(line / "root.pem"), "--template", "fleet", "--rotation-template", "rotate",
        "--out-dir", str(line / "images"),
    ]  # fmt: skip
    serials.write_text("sn-1\nsn-2,batch 7\n\nsn-3\n")
    assert signet_factory.main(common) == 0
    assert sorted(p.name for p in (line / "images").iterdir()) == ["sn-1.bin", "sn-2.bin", "sn-3.bin"]
    serials.write_text("sn-4\nsn-5\nsn-4\n")
    assert signet_factory.main(common) == 1
    assert "images already" in capsys.readouterr().err
    assert signet_factory.main([*common[:-1], str(line / "others")]) == 1
    assert "twice: sn-4" in capsys.readouterr().err
    assert not (line / "others" / "sn-5.bin").exists()


@pytest.fixture
def update(line):
    """A signed update."""
    key = ec.generate_private_key(ec.SECP256R1())
    (line / "ota.pem").write_bytes(pem(key))
    spki = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (line / "ota.pub").write_bytes(key.public_key().public_bytes(*spki))
    (line / "app.bin").write_bytes(bytes(range(256)) * 40)
    code = signet_factory.main([
        "sign", "--key", str(line / "ota.pem"), "--app", str(line / "app.bin"), "--version", "1.4.0",
        "--chip", "esp32c6", "--counter", "7", "--out", str(line / "manifest.json"),
    ])  # fmt: skip
    assert code == 0
    return line


def verify(line):
    return signet_factory.main([
        "verify", "--key", str(line / "ota.pub"), "--manifest", str(line / "manifest.json"),
        "--app", str(line / "app.bin"),
    ])  # fmt: skip


def test_a_signed_image_verifies_and_one_flipped_byte_does_not(update, capsys):
    assert verify(update) == 0
    image = bytearray((update / "app.bin").read_bytes())
    image[5000] ^= 1
    (update / "app.bin").write_bytes(image)
    assert verify(update) == 1
    assert "not the image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--version", "1.4"], "three numbers"),
        (["--counter", "-1"], "0 to 4294967295"),
        (["--url", "http://files.example/app.bin"], "must match"),
    ],
)
def test_a_manifest_that_no_device_could_read_is_not_signed(update, more, why, capsys):
    out = update / "other.json"
    code = signet_factory.main([
        "sign", "--key", str(update / "ota.pem"), "--app", str(update / "app.bin"), "--version", "1.4.0",
        "--chip", "esp32c6", "--counter", "7", "--out", str(out), *more,
    ])  # fmt: skip
    assert (code, out.exists()) == (1, False)
    assert why in capsys.readouterr().err


def test_the_address_of_an_image_is_signed_with_it(update):
    address = "https://files.example:8443/ota/app-1.4.0.bin"
    code = signet_factory.main([
        "sign", "--key", str(update / "ota.pem"), "--app", str(update / "app.bin"), "--version", "1.4.0",
        "--chip", "esp32c6", "--counter", "7", "--out", str(update / "manifest.json"), "--url", address,
    ])  # fmt: skip
    assert code == 0 and verify(update) == 0
    assert json.loads(json.loads((update / "manifest.json").read_text())["manifest"])["url"] == address


def test_a_manifest_changed_after_signing_is_refused(update, capsys):
    document = json.loads((update / "manifest.json").read_text())
    document["manifest"] = document["manifest"].replace('"counter":7', '"counter":8')
    (update / "manifest.json").write_text(json.dumps(document))
    assert verify(update) == 1
    assert "not by this key" in capsys.readouterr().err


def merge(line, factory, *more, app=b"\xe9" + b"A" * 9999, bootloader=b"\xe9" + b"B" * 999):
    (line / "app.bin").write_bytes(app)
    (line / "bootloader.bin").write_bytes(bootloader)
    out = line / "device.bin"
    code = signet_factory.main([
        "merge", "--chip", "esp32c6", "--partitions", str(PARTITIONS), "--app", str(line / "app.bin"),
        "--factory", str(factory), "--out", str(out), *(more or ("--bootloader", str(line / "bootloader.bin"))),
    ])  # fmt: skip
    return code, out


def test_one_image_for_the_whole_flash_starts_a_new_device(line):
    _, factory = nvs(line)
    code, out = merge(line, factory)
    assert code == 0
    image = out.read_bytes()
    assert len(image) == 4 << 20
    assert out.stat().st_mode & 0o077 == 0
    table = signet_factory.read_partitions(PARTITIONS)

    def part(name):
        start, size = table[name]
        return image[start : start + size]

    assert image[0] == 0xE9 and image[200:300] == b"B" * 100
    assert part("ota_0")[1:100] == b"A" * 99
    assert part("factory_nvs") == factory.read_bytes()
    assert set(part("creds")) == {0xFF} and set(part("ota_1")) == {0xFF}, "nothing of what was there before stays"
    # The first image, and that it works: as ESP-IDF's tools write it.
    assert part("otadata")[:32] == bytes.fromhex("01000000" + "ff" * 20 + "02000000" + "9a984347")
    assert set(part("otadata")[32:]) == {0xFF}


def test_the_partition_table_is_the_one_that_the_bootloader_reads(line):
    table = signet_factory.partition_table(PARTITIONS)
    entries = [table[at : at + 32] for at in range(0, len(table), 32)]
    names = [e[12:28].rstrip(b"\0").decode() for e in entries if e[:2] == b"\xaa\x50"]
    assert names == list(signet_factory.read_partitions(PARTITIONS))
    ota_1 = entries[names.index("ota_1")]
    assert ota_1[2:4] == b"\x00\x11" and struct.unpack("<II", ota_1[4:12]) == (0x1F0000, 0x1E0000)
    digest = entries[len(names)]
    assert digest[:16] == b"\xeb\xeb" + b"\xff" * 14
    assert digest[16:] == hashlib.md5(table[: 32 * len(names)]).digest()
    assert set(table[32 * len(names) + 32 :]) == {0xFF}


def test_a_flash_without_a_bootloader_is_refused(line, capsys):
    _, factory = nvs(line)
    code, out = merge(line, factory, "--chip", "esp32c6")
    assert (code, out.exists()) == (1, False)
    assert "--bootloader is missing" in capsys.readouterr().err
    code, out = merge(line, factory, bootloader=b"not one")
    assert (code, out.exists()) == (1, False)
    assert "not a bootloader" in capsys.readouterr().err


def test_an_application_that_is_none_or_larger_than_its_partition_is_refused(line, capsys):
    _, factory = nvs(line)
    for app, why in ((b"\x7fELF", "elf2image"), (b"\xe9" * (2 << 20), "do not fit")):
        code, out = merge(line, factory, app=app)
        assert (code, out.exists()) == (1, False)
        assert why in capsys.readouterr().err


def test_a_partition_table_that_lacks_a_part_is_refused(line, capsys):
    _, factory = nvs(line)
    rows = PARTITIONS.read_text().splitlines()
    short = line / "short.csv"
    short.write_text("\n".join(row for row in rows if not row.startswith("otadata")))
    code, _ = merge(line, factory, "--bootloader", str(line / "bootloader.bin"), "--partitions", str(short))
    assert code == 1
    assert "no partition otadata" in capsys.readouterr().err
    short.write_text("x, y, z\n")
    code, _ = merge(line, factory, "--bootloader", str(line / "bootloader.bin"), "--partitions", str(short))
    assert code == 1
    assert "short.csv:1" in capsys.readouterr().err


def test_the_key_of_updates_is_a_point_and_a_private_key_is_refused(update, capsys):
    code, out = nvs(update, "--ota-key", str(update / "ota.pub"))
    assert code == 0 and b"ota_key" in out.read_bytes()
    key = signet_factory.read_update_key(update / "ota.pub")
    assert len(key) == 65 and key[0] == 4
    assert key in out.read_bytes()
    out.unlink()
    capsys.readouterr()
    code, out = nvs(update, "--ota-key", str(update / "ota.pem"))
    assert (code, out.exists()) == (1, False)
    assert "private key" in capsys.readouterr().err
    nvs(update)
    assert "refuse every update" in capsys.readouterr().err


def token(line, *more, text="t" * 43 + "\n", url="https://broker.example:8443/provision"):
    file = line / "token"
    file.write_text(text)
    file.chmod(0o600)
    out = line / "factory.bin"
    code = signet_factory.main([
        "nvs", "--serial=sn-1", "--broker", "b:8883", "--server-ca", str(line / "root.pem"), "--template", "fleet",
        "--rotation-template", "rotate", "--token-file", str(file), "--token-url", url, "--out", str(out), *more,
    ])  # fmt: skip
    return code, out


def test_a_token_takes_the_place_of_a_claim(line):
    code, out = token(line)
    assert code == 0
    image = out.read_bytes()
    assert b"t" * 43 in image and b"token_url" in image and b"claim_key" not in image


def test_what_is_no_token_is_refused_and_not_shown(line, capsys):
    assert token(line, text="se cret")[0] == 1
    assert "se cret" not in capsys.readouterr().err
    assert token(line, url="http://broker.example/provision")[0] == 1
    assert token(line, "--credential", str(line / "claim"))[0] == 1
    assert "either --credential" in capsys.readouterr().err
    assert not (line / "factory.bin").exists()


def test_each_device_of_a_list_has_its_own_token(line, capsys):
    serials = line / "serials.csv"
    common = [
        "nvs", "--serials", str(serials), "--broker", "b:1", "--server-ca", str(line / "root.pem"), "--template", "fleet",
        "--rotation-template", "rotate", "--token-url", "https://b:8443/provision",
    ]  # fmt: skip
    serials.write_text("sn-1," + "a" * 43 + "\nsn-2," + "b" * 43 + "\n")
    assert signet_factory.main([*common, "--out-dir", str(line / "images")]) == 0
    assert b"b" * 43 in (line / "images" / "sn-2.bin").read_bytes()
    serials.write_text("sn-1," + "a" * 43 + "\nsn-2\n")
    assert signet_factory.main([*common, "--out-dir", str(line / "more")]) == 1
    assert "for sn-2" in capsys.readouterr().err


def test_images_of_an_earlier_run_are_not_mixed_with_new_ones(line, capsys):
    (line / "images").mkdir()
    (line / "images" / "sn-1.bin").write_bytes(b"of another claim")
    (line / "serials.csv").write_text("sn-1\n")
    code = signet_factory.main([
        "nvs", "--serials", str(line / "serials.csv"), "--credential", str(line / "claim"), "--broker", "b:1",
        "--server-ca", str(line / "root.pem"), "--template", "fleet", "--rotation-template", "rotate",
        "--out-dir", str(line / "images"),
    ])  # fmt: skip
    assert code == 1
    assert "images already" in capsys.readouterr().err
    assert (line / "images" / "sn-1.bin").read_bytes() == b"of another claim"


@pytest.mark.parametrize("chip", ["esp32c3", "esp32c6"])
def test_the_fuses_of_a_virtual_chip_take_what_the_line_burns(line, chip):
    key = line / "secure-boot.pem"
    subprocess.run(
        [sys.executable, "-m", "espsecure", "generate-signing-key", "--version", "2", "--scheme", "rsa3072", key],
        check=True, capture_output=True,
    )  # fmt: skip
    assert signet_factory.main(["rehearse-fuses", "--chip", chip, "--secure-boot-key", str(key)]) == 0
