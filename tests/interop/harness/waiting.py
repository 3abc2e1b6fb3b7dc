"""Lines of a program's output, waited for with a deadline; never by sleeping."""

import threading
import time

# A client or broker that does not answer in this time is broken, on a busy two-core machine too. Seconds.
DEADLINE = 20.0
# s2n, the TLS of the AWS SDK, holds back a failed handshake for up to 30 seconds against timing attacks.
REFUSAL_DEADLINE = 50.0


class Ended(TimeoutError):
    """The program will write no more lines."""


class Lines:
    """Collects the lines of a stream; any number of readers wait for the ones they need."""

    def __init__(self, stream):
        self._lines = []
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._collect, args=(stream,), daemon=True).start()

    def _collect(self, stream):
        for line in stream:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def mark(self):
        """The position after the last line so far."""
        with self._changed:
            return len(self._lines)

    def wait_for(self, pick, since=0, timeout=DEADLINE, what="a line"):
        """The first result of `pick(line)` that is not None, from position `since` on."""
        until = time.monotonic() + timeout
        position = since
        with self._changed:
            while True:
                while position < len(self._lines):
                    found = pick(self._lines[position])
                    position += 1
                    if found is not None:
                        return found
                left = until - time.monotonic()
                if self._ended or left <= 0:
                    state = "the output ended" if self._ended else f"nothing in {timeout:.0f} s"
                    tail = "\n  ".join(self._lines[since:][-30:])
                    kind = Ended if self._ended else TimeoutError
                    raise kind(f"waited for {what}: {state}; seen:\n  {tail}")
                self._changed.wait(left)

    def text(self, since=0):
        """All lines so far from position `since` on."""
        with self._changed:
            return "\n".join(self._lines[since:])
