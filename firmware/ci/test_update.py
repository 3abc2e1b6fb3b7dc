"""Updates of the sensor as 32-bit machine code: from the real broker into the other partition, a trial, and the way back."""

import json

import pytest
from conftest import IMAGE_BYTES, noted, with_version

import signet_factory

CHIP = "qemu-rv32"


@pytest.fixture
def made(broker, tmp_path, request):
    """Makes signed images: the firmware with another version, or other bytes."""
    firmware = request.config.getoption("--firmware")

    def make(version, counter=1, chip=CHIP, key="ota", image=None):
        with open(firmware, "rb") as file:
            image = with_version(file.read(), version) if image is None else image
        app, manifest = tmp_path / f"{version}.bin", tmp_path / f"{version}-{chip}-{key}.json"
        app.write_bytes(image)
        assert signet_factory.main([
            "sign", "--key", str(broker.folder / f"{key}.pem"), "--app", str(app), "--version", version,
            "--chip", chip, "--counter", str(counter), "--out", str(manifest),
        ]) == 0  # fmt: skip
        return app, manifest

    return make


def enrolled(sensor, operator, serial):
    """A device that runs the image from the factory, and listens."""
    device = sensor(serial)
    machine = device.boot()
    assert "ota_0" in machine.until("bootloader")
    machine.until("event Enrolled")
    operator.until_online(device.thing())
    return device, machine


def version(operator, device):
    """What the device says that it runs."""
    operator.publish(f"devices/{device.thing()}/commands/report", json.dumps({"id": "v"}))
    while True:
        result = json.loads(operator.until(f"devices/{device.thing()}/telemetry/results"))
        if result["command"] == "report":
            return result["report"]["firmware"]


def order(operator, device, manifest, changes=()):
    """Orders an update without `signet ota publish`, and returns the first answer."""
    document = json.loads(manifest.read_text()) | dict(changes)
    operator.publish(f"devices/{device.thing()}/commands/ota", json.dumps(document | {"id": "raw"}))
    while True:
        result = json.loads(operator.until(f"devices/{device.thing()}/telemetry/results"))
        if result.get("id") == "raw":
            return result


def outcome(publishing):
    """What `signet ota publish` says at its end."""
    printed, errors = publishing.communicate(timeout=400)
    return publishing.returncode, json.loads(printed)["devices"], errors


def test_an_update_comes_from_the_broker_is_tried_and_stays(sensor, operator, broker, made):
    device, machine = enrolled(sensor, operator, "ota-1")
    image, manifest = made("0.2.0", counter=5)
    publishing = broker.publish_update(device.thing(), image, manifest)
    machine.until("event Update(Installed)", seconds=300)
    machine.until("reboot new-image")
    assert "ota_1" in machine.until("bootloader")
    assert "image 0.2.0 Second" in machine.until("image")
    machine.until("event Update(Confirmed)")
    code, devices, errors = outcome(publishing)
    assert (code, devices[device.thing()]["state"]) == (0, "confirmed"), errors
    assert version(operator, device) == "0.2.0"
    machine.kill()

    operator.forget()
    again = device.boot()
    assert "ota_1" in again.until("bootloader")
    operator.until_online(device.thing())
    # What is older is refused, by its version and by the counter of what was installed.
    for image, manifest in (made("0.1.9", counter=9), made("0.3.0", counter=4)):
        result = order(operator, device, manifest)
        assert not result["ok"] and "not newer" in result["error"], result
    assert noted(device.folder) == "ota_1"


def test_what_is_not_signed_by_our_key_for_this_chip_is_refused(sensor, operator, broker, made):
    device, machine = enrolled(sensor, operator, "ota-2")
    small = b"an image that never boots".ljust(5000, b".")
    _, good = made("0.2.0", image=small)
    _, wrong = made("0.2.0", key="other", image=small)
    _, foreign = made("0.2.0", chip="esp32c6", image=small)
    changed = json.loads(good.read_text())["manifest"].replace("0.2.0", "0.9.0")
    for manifest, changes, why in (
        (good, {"signature": ""}, "signature is wrong"),
        (good, {"manifest": changed}, "signature is wrong"),
        (wrong, {}, "signature is wrong"),
        (foreign, {}, "another chip"),
    ):
        result = order(operator, device, manifest, changes)
        assert not result["ok"] and why in result["error"], result
    operator.publish(f"devices/{device.thing()}/commands/ota", json.dumps({"id": "raw", "manifest": "{}"}))
    assert json.loads(operator.until(f"devices/{device.thing()}/telemetry/results"))["ok"] is False
    assert noted(device.folder) == "ota_0"
    assert not any("reboot" in line for line in machine.seen)


@pytest.mark.parametrize("fault", ["changed", "cut"])
def test_an_image_that_is_not_the_one_that_was_signed_never_boots(sensor, operator, made, fault):
    device, machine = enrolled(sensor, operator, f"ota-{fault}")
    image = bytes(range(256)) * 20
    _, manifest = made("0.2.0", image=image)
    served = bytearray(image)
    if fault == "changed":
        served[3000] ^= 1
    else:
        served = served[:4096]
    assert order(operator, device, manifest)["ok"]
    topic = f"devices/{device.thing()}/telemetry"
    asked = []
    while True:
        wanted = json.loads(operator.until(f"{topic}/ota"))
        asked.append(wanted["offset"])
        part = bytes(served[wanted["offset"] :][: wanted["bytes_max"]])
        if not part:
            break
        operator.publish(f"devices/{device.thing()}/commands/ota/{wanted['offset']}", part)
        if wanted["offset"] + len(part) == len(image):
            result = json.loads(operator.until(f"{topic}/results"))
            assert not result["ok"] and "digest" in result["state"], result
            break
    assert asked[:2] == [0, 2048]
    assert noted(device.folder) == "ota_0"
    machine.kill()
    again = device.boot()
    assert "ota_0" in again.until("bootloader")
    again.until("event Online(Own")


def test_a_new_image_that_does_not_reach_the_broker_gives_way_to_the_old_one(sensor, operator, broker, made):
    device, machine = enrolled(sensor, operator, "ota-4")
    image, manifest = made("0.2.0", counter=5)
    publishing = broker.publish_update(device.thing(), image, manifest)
    machine.until("event Update(Installed)", seconds=300)
    # The bootloader starts the new image in a network without a broker; each time it dies.
    device.reaches = 1
    machine.until("image 0.2.0 Second")
    for _ in range(2):
        machine.until("event Store(Ready)")
        machine.kill()
        machine = device.boot()
        machine.until("image 0.2.0 Second")
    machine.until("event Store(Ready)")
    machine.kill()
    device.reaches = broker.port
    machine = device.boot()
    # The fourth start gives it up before it looks for the broker.
    machine.until("event Update(Reverted)")
    machine.until("reboot reverted")
    assert "ota_0" in machine.until("bootloader")
    operator.forget()
    operator.until_online(device.thing())
    code, devices, errors = outcome(publishing)
    assert code != 0 and "the old one is back" in devices[device.thing()]["why"], errors
    assert version(operator, device) == "0.1.0"
    # Its counter was never proven: another image with a lower one is still taken.
    small = b"x" * 5000
    assert order(operator, device, made("0.3.0", counter=4, image=small)[1])["ok"]


def test_a_machine_killed_during_an_update_boots_a_whole_image_and_takes_the_update_later(
    sensor, operator, broker, made, seed
):
    device, machine = enrolled(sensor, operator, "ota-5")
    image, manifest = made("0.2.0", counter=5)
    whole = {(device.folder / "ota_0.bin").read_bytes(): "0.1.0"}
    whole[image.read_bytes().ljust(IMAGE_BYTES, b"\xff")] = "0.2.0"
    for _ in range(4):
        document = json.loads(manifest.read_text())
        operator.publish(f"devices/{device.thing()}/commands/ota", json.dumps(document | {"id": "k"}))
        # At a random part, or when the last one is on its way: while the partitions are switched.
        parts = image.read_bytes()
        last = seed.choice([seed.randrange(len(parts)), len(parts)])
        served = 0
        while served < last:
            wanted = json.loads(operator.until(f"devices/{device.thing()}/telemetry/ota"))
            part = parts[wanted["offset"] :][: wanted["bytes_max"]]
            operator.publish(f"devices/{device.thing()}/commands/ota/{wanted['offset']}", part)
            served = wanted["offset"] + len(part)
        machine.kill()
        assert (device.folder / f"{noted(device.folder)}.bin").read_bytes() in whole, "half an image boots"
        operator.forget()
        machine = device.boot()
        machine.until("event Online(Own")
        operator.until_online(device.thing())
        if noted(device.folder) == "ota_1":
            break
    if noted(device.folder) == "ota_0":
        publishing = broker.publish_update(device.thing(), image, manifest)
        assert outcome(publishing)[0] == 0
    assert version(operator, device) == "0.2.0"
