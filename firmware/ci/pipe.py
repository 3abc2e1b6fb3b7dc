"""Standard input and output to a port of this machine: how the emulated network reaches the broker."""

import os
import select
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as broker:
    while True:
        ready, _, _ = select.select([0, broker], [], [])
        if 0 in ready:
            if not (data := os.read(0, 65536)):
                break
            broker.sendall(data)
        if broker in ready:
            if not (data := broker.recv(65536)):
                break
            os.write(1, data)
