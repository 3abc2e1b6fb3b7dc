"""A link that lets the first bytes of a client through and then loses everything that it sends."""

import contextlib
import socket
import threading


class DeadLink:
    """Carries `budget` bytes from the first client to the broker, and all answers back."""

    def __init__(self, broker_port, budget):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self._broker_port = broker_port
        self._budget = budget
        self._sockets = [self._listener]
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            broker = socket.create_connection(("127.0.0.1", self._broker_port), 10)
            broker.settimeout(60)
            self._sockets += [client, broker]
            threading.Thread(target=self._upstream, args=(client, broker), daemon=True).start()
            while block := broker.recv(4096):
                client.sendall(block)
            client.shutdown(socket.SHUT_RDWR)

    def _upstream(self, client, broker):
        left = self._budget
        with contextlib.suppress(OSError):
            while block := client.recv(4096):
                broker.sendall(block[:left])
                left -= len(block[:left])

    def close(self):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.close()
