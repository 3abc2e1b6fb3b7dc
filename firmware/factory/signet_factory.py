#!/usr/bin/env python3
"""Tools for the line: what a sensor is given before it leaves the factory.

    signet_factory.py nvs    --serial sn-000123 --credential claims/line-1 --broker broker.example:8883 \\
                             --server-ca root.pem --template fleet --rotation-template rotate --out factory.bin
    signet_factory.py nvs    ... --serials serials.csv --out-dir images
    signet_factory.py merge  --chip esp32c6 --bootloader bootloader.bin --partitions partitions-4mb.csv \\
                             --app app.bin --factory factory.bin --out device.bin
    signet_factory.py sign   --key ota.pem --app app.bin --version 1.4.0 --chip esp32c6 --counter 7 --out app.manifest.json
    signet_factory.py verify --key ota.pub --manifest app.manifest.json --app app.bin
    signet_factory.py rehearse-fuses --chip esp32c6 --secure-boot-key key.pem

The credential is the folder that `signet claim create --out` or `signet device add --out` wrote.
Exit codes: 0 done, 1 refused (the message says why), 2 wrong usage.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# As the firmware's grammar of names (firmware/core/src/identity.rs).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
TEMPLATE = re.compile(r"[A-Za-z0-9_-]{1,36}\Z")
BROKER = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?\Z")
# Names of the partition table that every board shares.
FACTORY_PARTITION = "factory_nvs"
FACTORY_BYTES = 0x6000


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


def nvs_rows(work, serial, args, credential, root):
    """The rows of the NVS generator; binary values go through files, as it wants them."""
    certificate, key = credential
    texts = {
        "device_id": checked(NAME, serial, "serial number"),
        "template": checked(TEMPLATE, args.template, "template"),
        "rotate_tmpl": checked(TEMPLATE, args.rotation_template, "template"),
        "format": args.format,
        "broker": checked_broker(args.broker),
    }
    yield ["key", "type", "encoding", "value"]
    yield ["factory", "namespace", "", ""]
    for name, value in texts.items():
        yield [name, "data", "string", value]
    for name, value in {"server_ca": root, "claim_cert": certificate, "claim_key": key}.items():
        file = work / f"{name}.der"
        file.touch(mode=0o600)
        file.write_bytes(value)
        yield [name, "file", "binary", str(file)]


def make_nvs(serial, args, credential, root, out):
    """One factory partition."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        table = work / "factory.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows(nvs_rows(work, serial, args, credential, root))
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


def nvs(args):
    credential, root = read_credential(args.credential), read_root(args.server_ca)
    if args.serials is None:
        make_nvs(args.serial, args, credential, root, args.out)
        print(args.out)
        return
    out = pathlib.Path(args.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    serials = [row[0].strip() for row in csv.reader(pathlib.Path(args.serials).open()) if row and row[0].strip()]
    twice = {serial for serial in serials if serials.count(serial) > 1}
    if twice:
        raise Refused(f"{args.serials}: these serial numbers are there twice: {', '.join(sorted(twice))}")
    for done, serial in enumerate(serials, 1):
        image = out / f"{serial}.bin"
        if not image.exists():
            make_nvs(serial, args, credential, root, image)
        if sys.stderr.isatty():
            print(f"\r{done}/{len(serials)}", end="\n" if done == len(serials) else "", file=sys.stderr)
    print(f"{len(serials)} images in {out}")


def read_partitions(file):
    """Name, offset and size of each partition of a table in CSV."""
    rows = {}
    for line in pathlib.Path(file).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, _, offset, size, *_ = (part.strip() for part in line.split(","))
            rows[name] = (int(offset, 0), int(size, 0))
    return rows


def merge(args):
    table = read_partitions(args.partitions)
    app, factory = pathlib.Path(args.app), pathlib.Path(args.factory)
    parts = [(args.bootloader_offset, pathlib.Path(args.bootloader))] if args.bootloader else []
    for name, file in (("ota_0", app), (FACTORY_PARTITION, factory)):
        if name not in table:
            raise Refused(f"{args.partitions}: there is no partition {name}")
        offset, size = table[name]
        if file.stat().st_size > size:
            raise Refused(f"{file}: {file.stat().st_size} bytes do not fit into the {size} bytes of {name}")
        parts.append((offset, file))
    if args.partition_table:
        parts.append((0x8000, pathlib.Path(args.partition_table)))
    with tempfile.TemporaryDirectory() as work:
        merged = pathlib.Path(work) / "merged.bin"
        command = [sys.executable, "-m", "esptool", "--chip", args.chip, "merge-bin", "-o", merged]
        command += ["--flash-size", "4MB"]
        for offset, file in sorted(parts):
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
    text = manifest_text(
        {
            "chip": args.chip,
            "counter": args.counter,
            "sha256": hashlib.sha256(app).hexdigest(),
            "size": len(app),
            "version": args.version,
        }
    )
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
    one.add_argument("--credential", required=True, help="the folder that signet wrote for the claim or the device")
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
    one.add_argument("--bootloader", help="the second-stage bootloader")
    one.add_argument("--bootloader-offset", type=lambda text: int(text, 0), default=0)
    one.add_argument("--partitions", required=True, help="the partition table, CSV")
    one.add_argument("--partition-table", help="the same, binary")
    one.add_argument("--app", required=True, help="the application's image")
    one.add_argument("--factory", required=True, help="the device's factory partition")
    one.add_argument("--out", required=True)
    one.set_defaults(act=merge)

    one = commands.add_parser("sign", help="sign the manifest of an update")
    one.add_argument("--key", required=True, help="a P-256 private key, PEM")
    one.add_argument("--app", required=True)
    one.add_argument("--version", required=True)
    one.add_argument("--chip", required=True)
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
