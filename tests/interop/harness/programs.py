"""Programs that the tests start, each in a process group of its own so that it can be ended as a whole."""

import contextlib
import os
import signal
import subprocess


def start(argv, env=None, **streams):
    """Starts a program; `streams` are those of `subprocess.Popen`."""
    return subprocess.Popen(
        [str(part) for part in argv],
        env={**os.environ, **(env or {})},
        text=True,
        bufsize=1,
        start_new_session=True,
        **streams,
    )


def kill(process):
    """Ends a program and what it started, without any farewell."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


def stop(process, patience=10):
    """Asks a program to end, and ends it when it does not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    kill(process)
