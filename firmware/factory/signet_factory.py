#!/usr/bin/env python3
"""Tools for the line: what a sensor is given before it leaves the factory.

    signet_factory.py nvs    --serial sn-000123 --credential claims/line-1 --broker broker.example:8883 \\
                             --server-ca root.pem --template fleet --rotation-template rotate --ota-key ota.pub --out factory.bin
    signet_factory.py nvs    ... --token-file token --token-url https://broker.example:8443/provision   (instead of --credential)
    signet_factory.py nvs    ... --serials serials.csv --out-dir images
    signet_factory.py merge  --chip esp32c6 --bootloader bootloader.bin --partitions partitions-4mb.csv \\
                             --app app.bin --factory factory.bin --out device.bin
    signet_factory.py sign   --key ota.pem --app app.bin --version 1.4.0 --chip esp32c6 --counter 7 --out app.manifest.json
    signet_factory.py verify --key ota.pub --manifest app.manifest.json --app app.bin
    signet_factory.py rehearse-fuses --chip esp32c6 --secure-boot-key key.pem

The credential is the folder that `signet claim create --out` or `signet device add --out` wrote; the token is what
`signet token create` printed.
Exit codes: 0 done, 1 refused (the message says why), 2 wrong usage.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# As the firmware's grammar of names (firmware/core/src/identity.rs).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
TEMPLATE = re.compile(r"[A-Za-z0-9_-]{1,36}\Z")
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}\Z")
ADDRESS = re.compile(r"https://[A-Za-z0-9.-]{1,80}(:[0-9]{1,5})?/[!-\"$-~]{0,160}\Z")
VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}\Z")
BROKER = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?\Z")
# Names of the partition table that every board shares.
FACTORY_PARTITION = "factory_nvs"
FACTORY_BYTES = 0x6000
TABLE_OFFSET = 0x8000
TABLE_BYTES = 0xC00
SECTOR = 0x1000
# Where the ROM of a chip looks for the second-stage bootloader.
BOOTLOADER_OFFSETS = {"esp32": 0x1000, "esp32s2": 0x1000, "esp32s3": 0, "esp32c3": 0, "esp32c6": 0}
# The types of a partition table, and the subtypes that the boards use.
TYPES = {"app": 0, "data": 1}
SUBTYPES = {"ota_0": 0x10, "ota_1": 0x11, "ota": 0x00, "phy": 0x01, "nvs": 0x02}


class Refused(Exception):
    """What is wrong with the input, for a person."""


def the_only(folder, suffix):
    """The one file of the folder with that suffix; the chain beside a certificate does not count."""
    found = [p for p in sorted(folder.glob(f"*{suffix}")) if not p.stem.endswith("-chain")]
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise Refused(f"{folder}: expected one *{suffix} file and found {names}; give the folder that signet wrote")
    return found[0]


def read_credential(folder):
    """Certificate and private key of a folder of signet's, both DER."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder; give what `signet claim create --out` or `signet device add --out` wrote")
    certificate_file, key_file = the_only(folder, ".crt"), the_only(folder, ".key")
    if key_file.stat().st_mode & 0o077:
        raise Refused(f"{key_file}: others can read this private key; run chmod 600 {key_file}")
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
        raise Refused(f"{folder}: the certificate is not for this private key")
    return (
        certificate.public_bytes(serialization.Encoding.DER),
        key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def read_root(file):
    """The root of the broker's certificate, DER."""
    root = x509.load_pem_x509_certificate(pathlib.Path(file).read_bytes())
    try:
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise Refused(f"{file}: this is not a certificate authority; give the root of the broker's certificate")
    return root.public_bytes(serialization.Encoding.DER)


def read_update_key(file):
    """The public key of updates as the device wants it: an uncompressed point of P-256."""
    content = pathlib.Path(file).read_bytes()
    if b"PRIVATE KEY" in content:
        raise Refused(f"{file}: this is a private key; the device gets the public one: openssl ec -in {file} -pubout")
    key = serialization.load_pem_public_key(content)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(f"{file}: the key of updates must be P-256; make one with openssl ecparam -genkey -name prime256v1")
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def checked(pattern, text, what):
    if not pattern.match(text):
        raise Refused(f"{what} {text!r} cannot be used: it must match {pattern.pattern}")
    return text


def checked_broker(text):
    port = checked(BROKER, text, "broker").partition(":")[2]
    if port and not 1 <= int(port) <= 65535:
        raise Refused(f"broker {text!r}: a port is 1 to 65535")
    return text


def write_private(path, content):
    """Writes a file that only its owner can read, whole or not at all."""
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(part, path)


def read_token(file):
    """A token, from a file that only its owner can read."""
    path = pathlib.Path(file)
    if path.stat().st_mode & 0o077:
        raise Refused(f"{file}: others can read this token; run chmod 600 {file}")
    return checked_token(path.read_text().strip(), file)


def checked_token(token, where):
    """The token itself is a secret: no message shows it."""
    if not TOKEN.match(token):
        raise Refused(f"{where}: this is no token; give what `signet token create` printed, and nothing else")
    return token


def nvs_rows(work, serial, token, args):
    """The rows of the NVS generator; binary values go through files, as it wants them."""
    binaries = {"server_ca": read_root(args.server_ca)}
    if args.credential:
        binaries["claim_cert"], binaries["claim_key"] = read_credential(args.credential)
    if args.ota_key:
        binaries["ota_key"] = read_update_key(args.ota_key)
    texts = {
        "device_id": checked(NAME, serial, "serial number"),
        "template": checked(TEMPLATE, args.template, "template"),
        "rotate_tmpl": checked(TEMPLATE, args.rotation_template, "template"),
        "format": args.format,
        "broker": checked_broker(args.broker),
    }
    if token:
        texts |= {"token": token, "token_url": checked(ADDRESS, args.token_url, "token address")}
    yield ["key", "type", "encoding", "value"]
    yield ["factory", "namespace", "", ""]
    for name, value in texts.items():
        yield [name, "data", "string", value]
    for name, value in binaries.items():
        file = work / f"{name}.der"
        file.touch(mode=0o600)
        file.write_bytes(value)
        yield [name, "file", "binary", str(file)]


def make_nvs(serial, token, args, out):
    """One factory partition."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        table = work / "factory.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows(nvs_rows(work, serial, token, args))
        image = work / "factory.bin"
        run(
            "the NVS generator",
            [sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate", table, image, hex(FACTORY_BYTES)],
        )
        write_private(out, image.read_bytes())


def run(what, command):
    """Runs a tool; what it says is shown when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"{what} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def read_serials(args):
    """Serial numbers of a list, each with its token if the devices begin with one."""
    rows = [row for row in csv.reader(pathlib.Path(args.serials).open()) if row and row[0].strip()]
    serials = [checked(NAME, row[0].strip(), "serial number") for row in rows]
    twice = {serial for serial in serials if serials.count(serial) > 1}
    if twice:
        raise Refused(f"{args.serials}: these serial numbers are there twice: {', '.join(sorted(twice))}")
    if not args.token_url:
        return dict.fromkeys(serials)
    short = [row[0] for row in rows if len(row) < 2]
    if short:
        raise Refused(f"{args.serials}: no token in the second column for {', '.join(short)}; a token is for one device")
    return {row[0].strip(): checked_token(row[1].strip(), f"{args.serials}, {row[0]}") for row in rows}


def nvs(args):
    if bool(args.token_url) == bool(args.credential):
        raise Refused("give either --credential, the folder of a claim or a device, or --token-url with a token")
    if bool(args.token_file) != bool(args.token_url and args.serial):
        raise Refused("--token-file and --token-url belong together, for one --serial; a list has its tokens in the second column")
    if not args.ota_key:
        print("no --ota-key: these devices will refuse every update", file=sys.stderr)
    if args.serials is None:
        make_nvs(args.serial, read_token(args.token_file) if args.token_file else None, args, args.out)
        print(args.out)
        return
    out = pathlib.Path(args.out_dir)
    # What is there was made of other inputs, or of another claim: nobody could tell the images apart.
    if out.exists() and any(out.iterdir()):
        raise Refused(f"{out}: there are images already; give a new --out-dir, or remove what an earlier run left")
    out.mkdir(parents=True, exist_ok=True)
    serials = read_serials(args)
    for done, (serial, token) in enumerate(serials.items(), 1):
        make_nvs(serial, token, args, out / f"{serial}.bin")
        if sys.stderr.isatty():
            print(f"\r{done}/{len(serials)}", end="\n" if done == len(serials) else "", file=sys.stderr)
    print(f"{len(serials)} images in {out}")


def read_partitions(file):
    """Name, offset and size of each partition of a table in CSV."""
    return {name: (offset, size) for name, _, _, offset, size in partition_rows(file)}


def partition_rows(file):
    for number, line in enumerate(pathlib.Path(file).read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                name, kind, subtype, offset, size, *_ = (part.strip() for part in line.split(","))
                yield name, TYPES[kind], SUBTYPES[subtype], int(offset, 0), int(size, 0)
            except (ValueError, KeyError) as error:
                raise Refused(f"{file}:{number}: this is not a row of a partition table that is known here: {error}") from error


def partition_table(file):
    """The table as the bootloader reads it: an entry of 32 bytes each, and the MD5 of them."""
    entries = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, size, name.encode(), 0)
        for name, kind, subtype, offset, size in partition_rows(file)
    )
    digest = b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(entries, usedforsecurity=False).digest()
    return (entries + digest).ljust(TABLE_BYTES, b"\xff")


def first_note():
    """The bootloader's note on a new device: the first image, and that it works (firmware/core/src/images.rs)."""
    number = struct.pack("<I", 1)
    entry = number + b"\xff" * 20 + struct.pack("<II", 2, zlib.crc32(number, 0xFFFFFFFF))
    return entry.ljust(2 * SECTOR, b"\xff")


def checked_image(file, what, where):
    """An image for a chip begins with its magic byte."""
    content = pathlib.Path(file).read_bytes()
    if content[:1] != b"\xe9":
        raise Refused(f"{file}: this is not {what}; {where}")
    return content


def merge(args):
    if args.bootloader is None:
        raise Refused(
            "--bootloader is missing: without it the chip does not start; build one with ESP-IDF "
            "(build/bootloader/bootloader.bin), or take the one that `espflash save-image --merge` writes"
        )
    if args.chip not in BOOTLOADER_OFFSETS:
        raise Refused(f"--chip {args.chip}: known are {', '.join(BOOTLOADER_OFFSETS)}")
    table = read_partitions(args.partitions)
    app, factory = pathlib.Path(args.app), pathlib.Path(args.factory)
    bootloader = checked_image(args.bootloader, "a bootloader", "give the second-stage bootloader of this chip")
    room = TABLE_OFFSET - BOOTLOADER_OFFSETS[args.chip]
    if len(bootloader) > room:
        raise Refused(f"{args.bootloader}: {len(bootloader)} bytes do not fit into the {room} bytes before the partition table")
    checked_image(app, "an application's image", "make it with esptool elf2image")
    made = {"ota_0": app.read_bytes(), FACTORY_PARTITION: factory.read_bytes(), "otadata": first_note()}
    parts = {BOOTLOADER_OFFSETS[args.chip]: bootloader, TABLE_OFFSET: partition_table(args.partitions)}
    for name in (*made, "creds", "ota_1"):
        if name not in table:
            raise Refused(f"{args.partitions}: there is no partition {name}")
        offset, size = table[name]
        content = made.get(name, b"")
        if len(content) > size:
            file = {"ota_0": app, FACTORY_PARTITION: factory}.get(name, name)
            raise Refused(f"{file}: {len(content)} bytes do not fit into the {size} bytes of {name}")
        # What nothing is written to is erased: a device that was used before begins anew.
        parts[offset] = content.ljust(size, b"\xff")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        merged = work / "merged.bin"
        command = [sys.executable, "-m", "esptool", "--chip", args.chip, "merge-bin", "-o", merged]
        command += ["--flash-size", "4MB", "--pad-to-size", "4MB"]
        for offset, content in sorted(parts.items()):
            file = work / f"{offset:x}.bin"
            file.touch(mode=0o600)
            file.write_bytes(content)
            command += [hex(offset), file]
        run("esptool", command)
        write_private(args.out, merged.read_bytes())
    print(f"{args.out}: flash it at offset 0")


def manifest_text(fields):
    """What is signed: the fields as canonical JSON, as the firmware reads them (firmware/core/src/ota.rs)."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def sign(args):
    key = serialization.load_pem_private_key(pathlib.Path(args.key).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused(f"{args.key}: the key must be P-256; make one with openssl ecparam -genkey -name prime256v1")
    app = pathlib.Path(args.app).read_bytes()
    if not VERSION.match(args.version):
        raise Refused(f"version {args.version!r}: three numbers, as 1.4.0, each below 2^32")
    if not 0 <= args.counter < 1 << 32:
        raise Refused(f"counter {args.counter}: 0 to 4294967295")
    fields = {
        "chip": args.chip,
        "counter": args.counter,
        "sha256": hashlib.sha256(app).hexdigest(),
        "size": len(app),
        "version": args.version,
    }
    if args.url:
        fields["url"] = checked(ADDRESS, args.url, "address of the image")
    text = manifest_text(fields)
    signature = key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    document = {"manifest": text, "signature": signature.hex()}
    pathlib.Path(args.out).write_text(json.dumps(document, indent=2) + "\n")
    print(args.out)


def verify(args):
    key = serialization.load_pem_public_key(pathlib.Path(args.key).read_bytes())
    document = json.loads(pathlib.Path(args.manifest).read_text())
    try:
        signature = bytes.fromhex(document["signature"])
        key.verify(signature, document["manifest"].encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Refused(f"{args.manifest}: the signature is not by this key") from error
    fields = json.loads(document["manifest"])
    app = pathlib.Path(args.app).read_bytes()
    if len(app) != fields["size"] or hashlib.sha256(app).hexdigest() != fields["sha256"]:
        raise Refused(f"{args.app}: this is not the image that the manifest describes")
    print(f"{args.app}: version {fields['version']} for {fields['chip']}, counter {fields['counter']}: good")


def rehearse_fuses(args):
    """Burns what a production line burns, into a virtual chip: nothing physical is touched."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        chip = work / "efuses.bin"
        hmac_key = work / "hmac.key"
        hmac_key.write_bytes(os.urandom(32))
        digest = work / "digest.bin"
        run("espsecure", [
            sys.executable, "-m", "espsecure", "digest-sbv2-public-key", "--keyfile", args.secure_boot_key,
            "--output", digest,
        ])  # fmt: skip
        fuse = [
            sys.executable, "-m", "espefuse", "--chip", args.chip, "--virt", "--path-efuse-file", chip,
            "--do-not-confirm",
        ]  # fmt: skip
        run("espefuse", [*fuse, "burn-key", "BLOCK_KEY0", digest, "SECURE_BOOT_DIGEST0"])
        run("espefuse", [*fuse, "burn-key", "BLOCK_KEY1", hmac_key, "HMAC_UP"])
        run("espefuse", [*fuse, "burn-efuse", "SECURE_BOOT_EN", "1"])
        summary = run("espefuse", [*fuse, "summary"])
    for wanted in ("SECURE_BOOT_DIGEST0", "HMAC_UP"):
        if wanted not in summary:
            raise Refused(f"the virtual chip does not show {wanted}:\n{summary}")
    print(f"rehearsed on a virtual {args.chip}: secure boot digest, HMAC key for sealing, secure boot enabled")


def parser():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("nvs", help="make factory partitions")
    who = one.add_mutually_exclusive_group(required=True)
    who.add_argument("--serial", help="the serial number of one device")
    who.add_argument("--serials", help="a CSV file, a serial number in the first column of each line")
    one.add_argument("--credential", help="the folder that signet wrote for the claim or the device")
    one.add_argument("--token-file", help="a file with the one-time token of the device, instead of a credential")
    one.add_argument("--token-url", help="where the token is taken: https://name:port/provision")
    one.add_argument("--ota-key", help="the public key of updates, PEM; without it the device refuses every update")
    one.add_argument("--broker", required=True, help="name:port of the broker, as in its certificate")
    one.add_argument("--server-ca", required=True, help="the root of the broker's certificate, PEM")
    one.add_argument("--template", required=True, help="the provisioning template of the first enrolment")
    one.add_argument("--rotation-template", required=True, help="the template of rotations")
    one.add_argument("--format", choices=["json", "cbor"], default="cbor", help="of the provisioning payloads")
    one.add_argument("--out", default="factory.bin", help="the image of one device")
    one.add_argument("--out-dir", default="factory", help="the folder of the images of many")
    one.set_defaults(act=nvs)

    one = commands.add_parser("merge", help="make one flashable image of a device")
    one.add_argument("--chip", required=True)
    one.add_argument("--bootloader", help="the second-stage bootloader of the chip; there is no device without it")
    one.add_argument("--partitions", required=True, help="the partition table, CSV")
    one.add_argument("--app", required=True, help="the application's image")
    one.add_argument("--factory", required=True, help="the device's factory partition")
    one.add_argument("--out", required=True)
    one.set_defaults(act=merge)

    one = commands.add_parser("sign", help="sign the manifest of an update")
    one.add_argument("--key", required=True, help="a P-256 private key, PEM")
    one.add_argument("--app", required=True)
    one.add_argument("--version", required=True)
    one.add_argument("--chip", required=True)
    one.add_argument("--url", help="where the device fetches the image, https://...; without it, it comes over MQTT")
    one.add_argument("--counter", required=True, type=int, help="the anti-rollback counter: never smaller than before")
    one.add_argument("--out", required=True)
    one.set_defaults(act=sign)

    one = commands.add_parser("verify", help="check a manifest and its image")
    one.add_argument("--key", required=True, help="the public key, PEM")
    one.add_argument("--manifest", required=True)
    one.add_argument("--app", required=True)
    one.set_defaults(act=verify)

    one = commands.add_parser("rehearse-fuses", help="burn the fuses of a virtual chip")
    one.add_argument("--chip", required=True)
    one.add_argument("--secure-boot-key", required=True, help="the signing key of secure boot v2, PEM")
    one.set_defaults(act=rehearse_fuses)
    return top


def main(arguments=None):
    args = parser().parse_args(arguments)
    try:
        args.act(args)
    except (Refused, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
