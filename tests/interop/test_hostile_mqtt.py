"""What is no MQTT, or MQTT that breaks a rule, in place of MQTT: over TCP and within TLS."""

import random

from links import DISCONNECT, PINGREQ, Plain, Tls, connect, context, packet, publish, subscribe, text
from links import unsubscribe
from ours import EndpointTest

# v5 section 2.4.
MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID, TOPIC_ALIAS_INVALID = 0x81, 0x82, 0x90, 0x94
PACKET_TOO_LARGE, QOS_NOT_SUPPORTED, FILTER_INVALID = 0x95, 0x9B, 0x8F
BROKEN = (MALFORMED, PROTOCOL_ERROR)

# DISCONNECT with Session Expiry Interval 1.
RAISED_EXPIRY = packet(0xE0, b"\0\x05\x11\0\0\0\x01")


def before_connect():
    """In place of a CONNECT: name and bytes."""
    noise = random.Random(20261123)
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n"
    yield "a TLS hello", bytes.fromhex("16030100300100002c0303") + bytes(37)
    yield "zeros", bytes(4096)
    yield "ones", b"\xff" * 4096
    for index in range(10):
        # Its first byte is no CONNECT's: that could be a long one that has only begun.
        yield f"noise {index}", bytes([noise.choice([0x00, 0x23, 0x9A, 0xFE])]) + noise.randbytes(noise.choice([1, 100, 65536]))
    yield "a remaining length of 5 bytes", b"\x10\xff\xff\xff\xff\x7f"
    yield "a remaining length that does not end", b"\x10\x80\x80\x80\x80\x80\x80"
    yield "a CONNECT of 256 MB", b"\x10\xff\xff\xff\x7f" + text("MQTT")
    yield "an empty CONNECT", b"\x10\x00"
    for version in (4, 5):
        v = f"{version} "
        yield v + "PUBLISH first", publish(version, "a")
        yield v + "SUBSCRIBE first", subscribe(version, "a")
        yield v + "UNSUBSCRIBE first", unsubscribe(version, "a")
        yield v + "PINGREQ first", PINGREQ
        yield v + "PUBACK first", b"\x40\x02\x00\x01"
        yield v + "DISCONNECT first", DISCONNECT
        yield v + "CONNACK first", b"\x20\x02\x00\x00"
        yield v + "another protocol name", connect(version, protocol="MQTX")
        yield v + "a protocol name in lower case", connect(version, protocol="mqtt")
        yield v + "a bad first byte", b"\x11" + connect(version)[1:]
        yield v + "the reserved flag", connect(version, flags=0x03)
        yield v + "will QoS without a will", connect(version, flags=0x0A)
        yield v + "will retain without a will", connect(version, flags=0x22)
        yield v + "will QoS 3", connect(version, flags=0x1E, extra=text("w") + text("m"))
        yield v + "a will that is not there", connect(version, flags=0x06)
        yield v + "a password that is not there", connect(version, flags=0xC2, extra=text("ann"))
        yield v + "bytes too many", connect(version, extra=b"\0")
        yield v + "a string beyond its packet", packet(0x10, text("MQTT"), bytes([version, 2, 0, 60]), b"\xff\xff")
        yield v + "a client id that is no UTF-8", connect(version, b"a\xff")
        yield v + "a client id with a surrogate", connect(version, b"\xed\xa0\x80")
        yield v + "a client id with U+0000", connect(version, b"a\0b")
        yield v + "an overlong UTF-8 sequence", connect(version, b"\xc0\xaf")
    yield "4 a password without a user", connect(4, flags=0x42, extra=text("secret"))
    yield "5 a property twice", connect(5, given=b"\x11\0\0\0\x01" * 2)
    yield "5 an unknown property", connect(5, given=b"\x7f\0")
    yield "5 a property of another packet", connect(5, given=b"\x23\0\x01")
    yield "5 Receive Maximum 0", connect(5, given=b"\x21\0\0")
    yield "5 Maximum Packet Size 0", connect(5, given=b"\x27\0\0\0\0")
    yield "5 Request Problem Information 2", connect(5, given=b"\x17\x02")
    yield "5 authentication data without a method", connect(5, given=b"\x16\0\x01a")
    yield "5 properties beyond their packet", packet(0x10, text("MQTT"), b"\x05\x02\0\x3c", b"\xff\x7f", text("a"))
    yield "5 a will to a wildcard", connect(5, flags=0x06, extra=b"\0" + text("w/#") + text("m"))
    yield "5 AUTH first", b"\xf0\x00"


# In place of a CONNECT: what has a CONNACK of its own.
REFUSALS = [
    ("a level to come", connect(4, level=6), {0x01, 0x84}),
    ("3.1's level", connect(4, level=3), {0x01, 0x84}),
    ("the highest level", connect(4, level=255), {0x01, 0x84}),
    ("no client id, no clean session", connect(4, "", flags=0x00), {0x02}),
    ("a will of QoS 2", connect(5, flags=0x16, extra=b"\0" + text("w") + text("m")), {0x9B}),
    ("enhanced authentication", connect(5, given=b"\x15" + text("SCRAM-SHA-1")), {0x8C}),
]


def after_connect(version):
    """After CONNECT: name, bytes, and the reasons of DISCONNECT that are right in 5.0."""
    five = version == 5
    yield "another CONNECT", connect(version, "other"), {PROTOCOL_ERROR}
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", BROKEN
    yield "QoS 2", publish(version, "a", first=0x34, packet_id=1), {QOS_NOT_SUPPORTED}
    yield "QoS 3", publish(version, "a", first=0x36, packet_id=1), {MALFORMED}
    yield "DUP with QoS 0", publish(version, "a", first=0x38), BROKEN
    for name in ("#", "a/#", "+", "a/+/b", "a+"):
        yield f"PUBLISH to {name}", publish(version, name), {TOPIC_NAME_INVALID, *BROKEN}
    yield "PUBLISH to no topic", publish(version, ""), {TOPIC_NAME_INVALID, *BROKEN}
    yield "a topic that is no UTF-8", publish(version, b"a\xff"), {TOPIC_NAME_INVALID, *BROKEN}
    yield "a topic with a surrogate", publish(version, b"\xed\xb0\x80"), {TOPIC_NAME_INVALID, *BROKEN}
    yield "a topic with U+0000", publish(version, b"a\0b"), {TOPIC_NAME_INVALID, *BROKEN}
    yield "a topic beyond its packet", packet(0x30, b"\xff\xffab"), {MALFORMED}
    yield "an empty PUBLISH", b"\x30\x00", {MALFORMED}
    yield "PUBLISH with packet id 0", publish(version, "a", first=0x32, packet_id=0), BROKEN
    yield "PUBLISH without a packet id", packet(0x32, text("a"), b"\x01"), {MALFORMED}
    yield "SUBSCRIBE with packet id 0", subscribe(version, "a", packet_id=0), BROKEN
    yield "SUBSCRIBE with a bad first byte", subscribe(version, "a", first=0x80), {MALFORMED}
    yield "SUBSCRIBE to nothing", subscribe(version), BROKEN
    yield "SUBSCRIBE with QoS 3", subscribe(version, "a", options=3), BROKEN
    yield "SUBSCRIBE with reserved options", subscribe(version, "a", options=0xC1), BROKEN
    yield "SUBSCRIBE without options", packet(0x82, b"\0\x01", b"\0" if five else b"", text("a")), BROKEN
    yield "a filter that is no UTF-8", subscribe(version, b"a\xff"), {FILTER_INVALID, *BROKEN}
    yield "UNSUBSCRIBE with packet id 0", unsubscribe(version, "a", packet_id=0), BROKEN
    yield "UNSUBSCRIBE with a bad first byte", unsubscribe(version, "a", first=0xA0), {MALFORMED}
    yield "UNSUBSCRIBE from nothing", unsubscribe(version), BROKEN
    yield "PUBACK with packet id 0", b"\x40\x02\0\0", BROKEN
    yield "PUBACK with a bad first byte", b"\x42\x02\0\x01", {MALFORMED}
    yield "PUBREL with a bad first byte", b"\x60\x02\0\x01", {MALFORMED}
    for first, name in ((0x20, "CONNACK"), (0x90, "SUBACK"), (0xB0, "UNSUBACK"), (0xD0, "PINGRESP")):
        body = {0x20: b"\0\0", 0xD0: b""}.get(first, b"\0\x01\0\0")
        yield f"a server's packet, {name}", packet(first, body), BROKEN
    yield "packet type 0", b"\x00\x00", {MALFORMED, PROTOCOL_ERROR}
    yield "PINGREQ with a body", b"\xc0\x01\0", BROKEN
    yield "PINGREQ with a bad first byte", b"\xc1\x00", {MALFORMED}
    yield "DISCONNECT with a bad first byte", b"\xe1\x00", {MALFORMED}
    yield "a remaining length of 5 bytes", b"\x30\xff\xff\xff\xff\x7f", {MALFORMED}
    yield "300 KB", publish(version, "a", bytes(300_000)), {PACKET_TOO_LARGE}
    yield "the head of 256 MB", b"\x30\xff\xff\xff\x7f\0\x01a", {PACKET_TOO_LARGE}
    if five:
        yield "AUTH", b"\xf0\x00", BROKEN
        yield "topic alias 0", publish(5, "a", given=b"\x23\0\0"), {TOPIC_ALIAS_INVALID, *BROKEN}
        yield "a topic alias above the maximum", publish(5, "a", given=b"\x23\0\x09"), {TOPIC_ALIAS_INVALID}
        yield "a client's subscription identifier", publish(5, "a", given=b"\x0b\x01"), BROKEN
        yield "a response topic with a wildcard", publish(5, "a", given=b"\x08" + text("b/#")), {TOPIC_NAME_INVALID, *BROKEN}
        yield "a property twice", publish(5, "a", given=b"\x01\0" * 2), BROKEN
        yield "payload format 2", publish(5, "a", given=b"\x01\x02"), BROKEN
        yield "an unknown property", publish(5, "a", given=b"\x7f\0"), BROKEN
        yield "properties beyond their packet", packet(0x30, text("a"), b"\xff\x7f"), {MALFORMED}
        yield "retain handling 3", subscribe(5, "a", options=0x30), BROKEN
        # v5 section 3.14.2.2.2: the CONNECT said 0, so this is no valid DISCONNECT.
        yield "session expiry raised at the end", RAISED_EXPIRY, {PROTOCOL_ERROR}
    else:
        yield "packet type 15", b"\xf0\x00", ()
        yield "DISCONNECT with a body", b"\xe0\x01\0", ()


class HostileMqtt(EndpointTest):
    """Each in a connection of its own; a bystander sees nothing of it."""

    def setUp(self):
        super().setUp()
        self.server = self.serve(user=None)
        identity = self.device()
        self.context = context(self.server.ca, identity)
        self.bystander = Plain(self.server.plain_port).connect(5, "bystander")
        self.addCleanup(self.bystander.socket.close)
        self.addCleanup(self.serves)

    def serves(self):
        """The bystander is still there, and a client that comes now gets in by both ways."""
        self.bystander.ping()
        for open_link in self.ways().values():
            with open_link() as link:
                link.connect(5, "late").ping()

    def ways(self):
        return {
            "plain": lambda: Plain(self.server.plain_port),
            "TLS": lambda: Tls(self.server.port, self.context),
        }

    def test_in_place_of_a_connect(self):
        """A close without a word, or a 5.0 CONNACK that says what is wrong (v5 section 4.13.1)."""
        for way, open_link in self.ways().items():
            for name, data in before_connect():
                with self.subTest(f"{way}: {name}"), open_link() as link:
                    answer = link.send(data).rest()
                    refused = answer[:1] == b"\x20" and answer[3:4] >= b"\x80"
                    self.assertTrue(answer == b"" or refused, answer.hex())

    def test_connects_that_are_refused(self):
        for way, open_link in self.ways().items():
            for name, data, codes in REFUSALS:
                with self.subTest(f"{way}: {name}"), open_link() as link:
                    answer = link.send(data).rest()
                    self.assertEqual(answer[:1], b"\x20", answer.hex())
                    self.assertIn(answer[3], codes, answer.hex())

    def after_connect(self, version):
        for way, open_link in self.ways().items():
            for name, data, reasons in after_connect(version):
                with self.subTest(f"{way}: {name}"), open_link() as link:
                    answer = link.connect(version, "broken").send(data).rest()
                    if version == 5:
                        self.assertEqual(answer[:1], b"\xe0", answer.hex())
                        self.assertIn(answer[2], reasons, answer.hex())
                    else:
                        self.assertEqual(answer, b"")

    def test_after_a_connect_of_3_1_1(self):
        """3.1.1 has no reasons: the connection just ends."""
        self.after_connect(4)

    def test_after_a_connect_of_5(self):
        """DISCONNECT with the clause's reason, then the end (v5 [MQTT-4.13.1-1])."""
        self.after_connect(5)

    def test_what_ends_nothing(self):
        """Odd, but allowed: the connection goes on."""
        for version in (4, 5):
            for name, data in {
                "PUBACK for what was not sent": b"\x40\x02\x12\x34",
                "bad filters, answered one by one": subscribe(version, "$share/g/a"),
                "UNSUBSCRIBE from what was not subscribed": unsubscribe(version, "never"),
                "a thousand pings": PINGREQ * 1000,
                "65,535 bytes of topic": publish(version, "t" * 65_535),
                "the largest packet": publish(version, "t", bytes(256 * 1024 - 20)),
            }.items():
                with self.subTest(f"{version}: {name}"), Plain(self.server.plain_port) as link:
                    link.connect(version, "odd").send(data).ping()

    def test_which_ends_set_a_will_free(self):
        witness = self.bystander.send(subscribe(5, "wills/+"))
        self.assertEqual(witness.packet()[0], 0x90)
        for name, end, freed in (
            ("a close", b"", True),
            ("DISCONNECT", DISCONNECT, False),
            ("DISCONNECT with will message", b"\xe0\x01\x04", True),
            ("a protocol error", connect(5, "twice"), True),
            # v5 section 3.14.2.2.2: no valid DISCONNECT, so the will stands.
            ("a DISCONNECT that raises the session expiry", RAISED_EXPIRY, True),
        ):
            with self.subTest(name):
                with Plain(self.server.plain_port) as link:
                    will = b"\0" + text(b"wills/device") + text(name)
                    link.connect(5, "mortal", flags=0x06, extra=will).send(end).half_close().rest()
                # What comes next is the will, or else what comes after it.
                with Plain(self.server.plain_port) as other:
                    other.connect(5, "other").send(publish(5, "wills/none")).ping()
                topics = []
                while not topics or topics[-1] != b"wills/none":
                    _, body = witness.packet()
                    topics.append(body[2 : 2 + int.from_bytes(body[:2], "big")])
                self.assertEqual(topics, [b"wills/device"] * freed + [b"wills/none"])

    def test_a_remaining_length_that_is_longer_than_needed(self):
        """v5 [MQTT-1.5.5-1] wants the shortest form; 3.1.1 does not say. Either an end or an answer, no hang."""
        for version in (4, 5):
            with self.subTest(version), Plain(self.server.plain_port) as link:
                link.connect(version, "long").send(b"\xc0\x80\x00" + DISCONNECT)
                self.assertIn(link.rest()[:1], (b"", b"\xd0", b"\xe0"))

    def test_noise_after_a_connect(self):
        """Seeded: 200 connections of random bytes after a valid CONNECT, each ended by us with FIN."""
        noise = random.Random(20261124)
        for index in range(200):
            version = noise.choice((4, 5))
            data = noise.randbytes(noise.choice((1, 10, 1000, 100_000)))
            with self.subTest(index), Plain(self.server.plain_port) as link:
                link.connect(version, f"noise-{index}").send(data)
                try:
                    link.half_close()
                except OSError:
                    pass  # it was faster
                link.rest()

    def test_valid_packets_with_a_bit_turned(self):
        """Seeded: each answer is an end or none at all, never a hang or a crash."""
        noise = random.Random(20261125)
        for index in range(300):
            version = noise.choice((4, 5))
            good = [
                connect(version, "flip"),
                publish(version, "a/b", b"payload", first=0x32, packet_id=7),
                subscribe(version, "a/#", "b/+"),
                unsubscribe(version, "a/#"),
            ]
            data = bytearray(b"".join(good))
            for _ in range(noise.randint(1, 4)):
                data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
            with self.subTest(index), Plain(self.server.plain_port) as link:
                link.send(bytes(data))
                try:
                    link.half_close()
                except OSError:
                    pass
                link.rest()
