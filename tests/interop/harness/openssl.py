"""`openssl s_client`: a client without MQTT that says in numbers which alert it got."""

import os
import re
import subprocess

from harness.waiting import DEADLINE


def s_client(port, pki, *, certificate=None, leaf_only=False, send=b"", arguments=()):
    """Runs s_client until the broker ends the connection; gives its output.

    Its standard input stays open, so that it is the broker and not us who says goodbye.
    """
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", pki.root, "-verify_return_error"]
    if certificate:
        argv += ["-cert", pki.leaf(certificate), "-key", pki.key(certificate)]
        argv += [] if leaf_only else ["-cert_chain", pki.chain(certificate)]
    argv += arguments
    reading, writing = os.pipe()
    try:
        os.write(writing, send)
        done = subprocess.run(
            [str(part) for part in argv],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    return done.stdout.decode(errors="replace")


def alert(output):
    """The number of the alert that s_client received; None when there was none."""
    found = re.search(r"SSL alert number (\d+)", output)
    return int(found[1]) if found else None
