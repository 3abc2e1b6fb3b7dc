"""As much of an MQTT 5.0 client as the comparison needs, written by hand so that nothing but Python is needed."""

import socket
import struct


def _string(text):
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _length(number):
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


class Client:
    """A connection over a Unix socket. Every call waits for its answer; nothing sleeps."""

    TIMEOUT_SECONDS = 10

    def __init__(self, path, user, client_id):
        self._received = []
        self._packet_id = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(self.TIMEOUT_SECONDS)
        self._socket.connect(path)
        self._buffer = b""
        # Version 5, user name and clean start, keep alive 0, no properties.
        self._send(0x10, _string("MQTT") + b"\x05\x82\x00\x00\x00" + _string(client_id) + _string(user))
        self.connect_reason = self._wait(0x20)[1]

    def _send(self, first, body):
        self._socket.sendall(bytes([first]) + _length(len(body)) + body)

    def _more(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the broker closed the connection")
        self._buffer += data

    def _packet(self):
        while True:
            length = shift = 0
            for place, byte in enumerate(self._buffer[1:5], start=2):
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    if len(self._buffer) >= place + length:
                        packet = self._buffer[0], self._buffer[place : place + length]
                        self._buffer = self._buffer[place + length :]
                        return packet
                    break
            self._more()

    def _wait(self, wanted):
        """The body of the next packet of the type; topics of PUBLISH packets before it are kept."""
        while True:
            first, body = self._packet()
            if first & 0xF0 == 0x30:
                (length,) = struct.unpack_from(">H", body)
                self._received.append(body[2 : 2 + length].decode())
            elif first == 0xE0 and wanted != 0xE0:
                raise ConnectionError(f"DISCONNECT {body.hex()}")
            elif first == wanted:
                return body

    def _next_id(self):
        self._packet_id = self._packet_id % 65535 + 1
        return struct.pack(">H", self._packet_id)

    def publish(self, topic):
        """The reason code of the PUBACK to a PUBLISH of QoS 1."""
        self._send(0x32, _string(topic) + self._next_id() + b"\x00x")
        body = self._wait(0x40)
        return body[2] if len(body) > 2 else 0

    def subscribe(self, topic_filter):
        """The reason code of the SUBACK to a SUBSCRIBE of QoS 0."""
        self._send(0x82, self._next_id() + b"\x00" + _string(topic_filter) + b"\x00")
        return self._wait(0x90)[-1]

    def unsubscribe(self, topic_filter):
        self._send(0xA2, self._next_id() + b"\x00" + _string(topic_filter))
        self._wait(0xB0)

    def received(self):
        """The topics of everything that was delivered up to now: what the broker sent before its PINGRESP."""
        self._send(0xC0, b"")
        self._wait(0xD0)
        topics, self._received = self._received, []
        return topics

    def close(self):
        self._send(0xE0, b"")
        self._socket.close()
