"""What we encode, read by tshark's MQTT dissector: it finds nothing malformed, and what it saw makes the same bytes again."""

import json
import struct
from pathlib import Path

from harness import InteropTest, run_tool

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"v311": "3.1.1", "v5": "5.0"}
TYPES = ["CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK"]
TYPES += ["UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]
# v5 table 2-4: how many bytes a number has; strings, and bytes that tshark shows as a string.
NUMBERS = {1: (0x01, 0x17, 0x19, 0x25, 0x28, 0x29, 0x2A), 2: (0x13, 0x21, 0x22), 4: (0x02, 0x11, 0x18, 0x27)}
WIDTHS = {prop: width for width, props in NUMBERS.items() for prop in props}
STRINGS, BINARIES = (0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), (0x09, 0x16)


def samples(folder):
    """The packets of tests/samples, by name."""
    for path in sorted((ROOT / "tests/samples" / folder).glob("*.hex")):
        lines = (line.split("#")[0] for line in path.read_text().splitlines())
        yield path.stem, bytes.fromhex(" ".join(lines))


def capture(packets):
    """A pcap file (raw IP) in which a client sends each packet in a TCP segment of its own."""
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)
    sequence = 1
    for second, packet in enumerate(packets):
        tcp = struct.pack(">HHIIBBHHH", 40_000, 1883, sequence, 1, 0x50, 0x18, 65_535, 0, 0)
        addresses = (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(packet), second, 0, 64, 6, 0, *addresses)
        length = 40 + len(packet)
        file += struct.pack("<IIII", second, 0, length, length) + ip + tcp + packet
        sequence += len(packet)
    return file


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def varint_of_wire(number):
    """The bytes of a variable byte integer of one or two bytes read as one number, and its value."""
    wire = number.to_bytes(2 if number > 0xFF else 1, "big")
    return wire, sum((byte & 0x7F) << 7 * place for place, byte in enumerate(wire))


def text(value):
    return struct.pack(">H", len(value.encode())) + value.encode()


def values(tree, name):
    """The values of a field in their order, however many there are."""
    value = tree.get(name, [])
    return value if isinstance(value, list) else [value]


def experts(tree):
    """The messages of tshark's expert anywhere in a tree."""
    if isinstance(tree, list):
        for branch in tree:
            yield from experts(branch)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == "_ws.expert.message":
                yield from branch if isinstance(branch, list) else [branch]
            else:
                yield from experts(branch)


class Rebuilt:
    """The bytes of a packet, made of the fields that tshark saw in it."""

    def __init__(self, seen, version, original):
        self.seen, self.v5, self.original, self.out = seen, version == "5.0", original, b""
        flags = self.number("mqtt.hdrflags")
        kind = TYPES[(flags >> 4) - 1]
        self.remaining = self.number("mqtt.len")
        self.out = bytes([flags]) + varint(self.remaining)
        self.body_at = len(self.out)
        getattr(self, kind.lower())()

    def number(self, name):
        [value] = values(self.seen, name)
        return int(value, 0)

    def put(self, name, width):
        self.out += self.number(name).to_bytes(width, "big")

    def put_text(self, name):
        [value] = values(self.seen, name)
        self.out += text(value)

    def put_opaque(self, length):
        """Bytes of which tshark says only how many there are."""
        self.out += struct.pack(">H", length)
        self.out += self.original[len(self.out) :][:length]

    def more(self, after=0):
        return self.remaining > after

    def properties(self, name="mqtt.properties"):
        if not self.v5:
            return
        tree = self.seen[name]
        fields = {field: iter(values(tree, field)) for field in tree}

        def take(field):
            return next(fields[field])

        # tshark 4.0 shows a length of two bytes as it lies on the wire, not as what it means.
        block = varint_of_wire(int(take("mqtt.property_len")))
        self.out += block[0]
        start = len(self.out)
        for prop in [int(value, 0) for value in values(tree, "mqtt.property_id")]:
            self.out += bytes([prop])
            if prop in WIDTHS:
                self.out += int(take("mqtt.prop_number")).to_bytes(WIDTHS[prop], "big")
            elif prop == 0x0B:
                self.out += varint(int(take("mqtt.prop_number")))
            elif prop == 0x23:
                self.out += int(take("mqtt.property.topic_alias")).to_bytes(2, "big")
            elif prop == 0x24:
                self.out += bytes([int(take("mqtt.property.max_qos"))])
            elif prop == 0x03:
                self.out += text(take("mqtt.property.content_type"))
            elif prop == 0x26:
                self.out += text(take("mqtt.prop_key")) + text(take("mqtt.prop_value"))
            else:
                assert prop in STRINGS or prop in BINARIES, hex(prop)
                shown, length = take("mqtt.prop_string"), int(take("mqtt.prop_string_len"))
                if prop in STRINGS:
                    self.out += text(shown)
                else:
                    self.put_opaque(length)
        assert len(self.out) - start == block[1], f"the properties have {block[1]} bytes"

    def connect(self):
        self.put_text("mqtt.protoname")
        self.put("mqtt.ver", 1)
        flags = self.number("mqtt.conflags")
        self.out += bytes([flags])
        self.put("mqtt.kalive", 2)
        self.properties()
        self.put_text("mqtt.clientid")
        if flags & 0x04:
            self.properties("mqtt.will_properties")
            self.put_text("mqtt.willtopic")
            message = bytes.fromhex(self.seen["mqtt.willmsg"].replace(":", ""))
            self.out += struct.pack(">H", self.number("mqtt.willmsg_len")) + message
        if flags & 0x80:
            self.put_text("mqtt.username")
        if flags & 0x40:
            self.put_opaque(self.number("mqtt.passwd_len"))

    def connack(self):
        self.put("mqtt.conack.flags", 1)
        self.put("mqtt.connack.reason_code" if self.v5 else "mqtt.conack.val", 1)
        self.properties()

    def publish(self):
        # Where an alias stands for the topic tshark shows the topic that it stands for.
        if self.number("mqtt.topic_len"):
            self.put_text("mqtt.topic")
        else:
            self.out += text("")
        if self.out[0] & 0x06:
            self.put("mqtt.msgid", 2)
        self.properties()
        self.out += bytes.fromhex("".join(values(self.seen, "mqtt.msg")).replace(":", ""))

    def acknowledgement(self, name):
        self.put("mqtt.msgid", 2)
        self.outcome(name, 2)

    def outcome(self, name, before):
        if self.more(before):
            self.put(f"mqtt.{name}.reason_code", 1)
        if self.more(before + 1):
            self.properties()

    def puback(self):
        self.acknowledgement("puback")

    def pubrec(self):
        self.acknowledgement("pubrec")

    def pubrel(self):
        self.acknowledgement("pubrel")

    def pubcomp(self):
        self.acknowledgement("pubcomp")

    def subscribe(self):
        self.put("mqtt.msgid", 2)
        self.properties()
        options = values(self.seen, "mqtt.subscription_options" if self.v5 else "mqtt.sub.qos")
        topics = values(self.seen, "mqtt.topic")
        assert len(topics) == len(options), (topics, options)
        for topic, option in zip(topics, options):
            self.out += text(topic) + bytes([int(option, 0)])

    def suback(self):
        self.put("mqtt.msgid", 2)
        self.properties()
        self.codes("mqtt.suback.reason_code" if self.v5 else "mqtt.suback.qos")

    def codes(self, name):
        self.out += bytes(int(code, 0) for code in values(self.seen, name))

    def unsubscribe(self):
        self.put("mqtt.msgid", 2)
        self.properties()
        self.out += b"".join(text(topic) for topic in values(self.seen, "mqtt.topic"))

    def unsuback(self):
        self.put("mqtt.msgid", 2)
        self.properties()
        self.codes("mqtt.unsuback.reason_code")

    def pingreq(self):
        pass

    def pingresp(self):
        pass

    def disconnect(self):
        self.outcome("disconnect", 0)

    def auth(self):
        self.outcome("auth", 0)


class Tshark(InteropTest):
    """tshark's MQTT dissector."""

    def dissect(self, packets):
        """What tshark says of each packet, as nested fields."""
        file = self.dir / "packets.pcap"
        file.write_bytes(capture(packets))
        options = ["-T", "json", "--no-duplicate-keys", "-d", "tcp.port==1883,mqtt"]
        frames = json.loads(run_tool("tshark", "-r", file, *options))
        self.assertEqual(len(frames), len(packets))
        return [frame["_source"]["layers"] for frame in frames]

    def check(self, version, named):
        """Dissects named packets of a version, the first of which is CONNECT, and rebuilds each."""
        layers = self.dissect([packet for _, packet in named])
        for (name, packet), seen in zip(named, layers):
            with self.subTest(f"{version} {name}"):
                mqtt = seen.get("mqtt")
                self.assertIsInstance(mqtt, dict, f"not one MQTT packet: {packet.hex()}")
                self.assertNotIn("_ws.malformed", seen)
                # Passwords and other bytes it takes for text, and wonders about U+0000 in them.
                self.assertLessEqual(set(experts(mqtt)), {"Trailing stray characters"})
                self.assertEqual(int(mqtt["mqtt.hdrflags_tree"]["mqtt.msgtype"]), packet[0] >> 4)
                self.assertEqual(Rebuilt(mqtt, version, packet).out.hex(), packet.hex())

    def test_samples(self):
        self.require("tshark")
        for folder, version in VERSIONS.items():
            named = list(samples(folder))
            # The dissector knows the version from CONNECT, and what an alias stands for from the PUBLISH before it.
            first = ["connect_minimal", "publish_all_properties"]
            named.sort(key=lambda sample: (sample[0] not in first, sample[0]))
            self.assertGreater(len(named), 20)
            self.check(version, named)

    def test_packets_of_the_example(self):
        """Every type with every property and every code (codec/examples/packets.rs)."""
        self.require("tshark", "cargo")
        out = run_tool("cargo", "run", "-q", "--locked", "-p", "fleetwire-codec", "--example", "packets", cwd=ROOT)
        lines = [line.split() for line in out.splitlines()]
        for version in VERSIONS.values():
            packets = [bytes.fromhex(packet) for said, packet in lines if said == version]
            types = {TYPES[(packet[0] >> 4) - 1] for packet in packets}
            self.assertEqual(types, set(TYPES if version == "5.0" else TYPES[:-1]))
            named = [(f"{TYPES[(packet[0] >> 4) - 1]} {index}", packet) for index, packet in enumerate(packets)]
            self.check(version, named)

    def test_what_is_malformed_is_seen(self):
        """The checks above would notice."""
        self.require("tshark")
        connect = dict(samples("v5"))["connect_minimal"]
        # A filter that is longer than the packet, and a property that there is not.
        too_long, unknown = bytes.fromhex("8206000100000961"), bytes.fromhex("300600016102 7f00")
        self.assertIn("_ws.malformed", self.dissect([connect, too_long])[1])
        self.assertIn("mqtt.prop_unknown", json.dumps(self.dissect([connect, unknown])[1]))
        # One byte that tshark reads otherwise is a difference.
        [_, seen] = self.dissect([connect, bytes.fromhex("3005000161 0078")])
        self.assertNotEqual(Rebuilt(seen["mqtt"], "5.0", b"").out, bytes.fromhex("3005000161 0079"))
