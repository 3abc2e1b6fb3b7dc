"""What the Python agents share: one JSON object per line, operations in, events out.

`PROTOCOL.md` in this directory lists the operations and events.
"""

import json
import sys
import threading

_lock = threading.Lock()


def emit(event, **fields):
    """Writes one event line; callable from any thread of the client library."""
    with _lock:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


def spec():
    """The connection to make, as the test described it."""
    return json.loads(sys.argv[1])


def operations():
    """The test's operations until it closes our standard input."""
    for line in sys.stdin:
        yield json.loads(line)
