"""Connections that say whatever a test wants them to, and MQTT packets built by hand."""

import socket
import ssl
import struct
import time

from clients import ALPN_CERTIFICATE

# How soon an answer to nonsense has to come: well before the endpoint's time-out of 10 s, which is no answer.
SOON = 7


class Plain:
    """A TCP connection."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SOON)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends it, or as much as the peer takes before it ends the connection."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass
        return self

    def receive(self, size=65536):
        """What is there; nothing once the peer has ended the connection."""
        try:
            return self.socket.recv(size)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def exactly(self, count):
        while len(self.pending) < count:
            data = self.receive()
            if not data:
                raise EOFError(f"closed after {self.pending.hex()}")
            self.pending += data
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def packet(self):
        """The first byte of the next MQTT packet, and its body."""
        first, length, shift = self.exactly(1)[0], 0, 0
        while True:
            [byte] = self.exactly(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, self.exactly(length)

    def rest(self, within=SOON):
        """All that comes until the peer closes; `AssertionError` if it doesn't."""
        data, self.pending = self.pending, b""
        end = time.monotonic() + within
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"it hangs: not closed within {within} s, after {data[:100].hex()!r}")
            self.socket.settimeout(left)
            try:
                more = self.receive()
            except TimeoutError:
                continue
            if not more:
                return data
            data += more

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        """Ends the connection with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def connect(self, version, name="device-0", **options):
        """MQTT CONNECT, which has to be accepted."""
        self.send(connect(version, name, **options))
        first, body = self.packet()
        assert (first, body[1]) == (0x20, 0), (first, body.hex())
        return self

    def ping(self):
        """A round trip; packets that come before the answer are lost."""
        self.send(PINGREQ)
        while self.packet()[0] != 0xD0:
            pass
        return self


class Tls(Plain):
    """The same within TLS."""

    def __init__(self, port, context, **options):
        super().__init__(port, **options)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")


def context(ca, identity=None, alpn=(ALPN_CERTIFICATE,)):
    made = ssl.create_default_context(cafile=str(ca))
    if identity:
        made.load_cert_chain(identity.certificate, identity.key)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


class Handshake:
    """TLS without a socket, so that a test decides what travels when."""

    def __init__(self, made):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def flight(self):
        """What is to be sent now; `done` says whether the handshake is complete."""
        try:
            self.tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            self.done = False
        return self.outgoing.read()

    def seal(self, data):
        self.tls.write(data)
        return self.outgoing.read()


def client_hello(made):
    return Handshake(made).flight()


def remaining_length(length):
    encoded = bytearray()
    while True:
        length, low = divmod(length, 128)
        encoded.append(low | (0x80 if length else 0))
        if not length:
            return bytes(encoded)


def packet(first, *parts):
    body = b"".join(parts)
    return bytes([first]) + remaining_length(len(body)) + body


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return len(value).to_bytes(2, "big") + value


def properties(version, data=b""):
    """5.0 has them, 3.1.1 does not."""
    return remaining_length(len(data)) + data if version == 5 else b""


def connect(version, name="device-0", flags=0x02, keep_alive=60, protocol="MQTT", level=None, extra=b"", given=b""):
    head = text(protocol) + bytes([level or version, flags]) + keep_alive.to_bytes(2, "big")
    return packet(0x10, head, properties(version, given), text(name), extra)


def publish(version, topic, payload=b"", first=0x30, packet_id=None, given=b""):
    number = b"" if packet_id is None else packet_id.to_bytes(2, "big")
    return packet(first, text(topic), number, properties(version, given), payload)


def subscribe(version, *filters, packet_id=1, options=1, first=0x82):
    pairs = [text(each) + bytes([options]) for each in filters]
    return packet(first, packet_id.to_bytes(2, "big"), properties(version), *pairs)


def unsubscribe(version, *filters, packet_id=1, first=0xA2):
    return packet(first, packet_id.to_bytes(2, "big"), properties(version), *map(text, filters))


PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"
