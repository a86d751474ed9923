"""What our endpoint has to survive beneath MQTT: no TLS, broken TLS, silence, resets, peers that do not read."""

import random
import ssl
import threading
import time

from links import DISCONNECT, PINGREQ, PINGRESP, Handshake, Plain, Tls, client_hello, connect, context, packet, publish, subscribe
from ours import EndpointTest, resident_bytes

# The endpoint's time-out from accept to CONNECT.
ACCEPT_TIMEOUT = 10
MIB = 1024 * 1024


class Hostile(EndpointTest):
    """Each attack in connections of its own; a client that comes after it gets in."""

    def setUp(self):
        super().setUp()
        self.server = self.serve(user=None)
        self.context = context(self.server.ca, self.device())
        self.serves()
        self.memory = resident_bytes(self.server)
        self.addCleanup(self.serves)

    def serves(self):
        with Tls(self.server.port, self.context) as link:
            link.connect(5, "bystander").ping()
        with Plain(self.server.plain_port) as link:
            link.connect(4, "bystander").ping()

    def assert_memory(self, growth_max):
        growth = resident_bytes(self.server) - self.memory
        self.assertLess(growth, growth_max, f"{growth / MIB:.1f} MiB more than before")

    def assert_alert(self, answer):
        """Nothing, or one fatal alert in the clear."""
        self.assertTrue(answer == b"" or (answer[0] == 21 and answer[1] == 3 and answer[5] == 2), answer[:50].hex())

    # In place of a hello

    def test_no_hello(self):
        noise = random.Random(20261126)
        cases = {
            "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "an SSH banner": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            "SMTP": b"EHLO localhost\r\n",
            "MQTT": connect(5) + publish(5, "a"),
            "zeros": bytes(65536),
            "ones": b"\xff" * 65536,
            "an SSLv2 hello": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(16),
            "a proxy's header": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n",
            "an alert": bytes.fromhex("15030300020228"),
            "application data": bytes.fromhex("1703030010") + bytes(16),
            "a ChangeCipherSpec": bytes.fromhex("140303000101") * 100,
            "a heartbeat": bytes.fromhex("1803030003014000"),
            "an unknown record type": bytes.fromhex("6303030001aa"),
            "a ServerHello": bytes.fromhex("160303002a02000026") + bytes(38),
            "a Finished": bytes.fromhex("16030300101400000c") + bytes(12),
            "a record of 65,535 bytes": bytes.fromhex("160301ffff01") + bytes(65535),
            "a hello of 16 MB": bytes.fromhex("160301400001ffffff") + bytes(16380),
            "hello records without an end": (bytes.fromhex("160301400001ffffff") + bytes(16380)) * 40,
            "an empty hello": bytes.fromhex("160301000401000000"),
            "a hello of zeros": bytes.fromhex("1603010030 0100002c 0303") + bytes(42),
            "records of nothing": bytes.fromhex("1603010000") * 5000,
        }
        for index in range(40):
            size = noise.choice([6, 100, 5000, 65536])
            # Its first byte is not that of a handshake, which might be one that has only begun.
            cases[f"noise {index}"] = bytes([noise.choice([0, 1, 0x20, 0x7F, 0x80, 0xFF])]) + noise.randbytes(size)
        for name, data in cases.items():
            with self.subTest(name), Plain(self.server.port) as link:
                self.assert_alert(link.send(data).rest())

    def test_noise_in_a_hello(self):
        """Seeded: a real hello with bytes changed, then FIN."""
        noise = random.Random(20261127)
        hello = client_hello(self.context)
        for index in range(300):
            broken = bytearray(hello)
            for _ in range(noise.choice([1, 1, 2, 8])):
                broken[noise.randrange(len(broken))] = noise.randrange(256)
            with self.subTest(index), Plain(self.server.port) as link:
                link.send(bytes(broken)).half_close()
                # Some still are hellos, and get a ServerHello.
                answer = link.rest()
                self.assertIn(answer[:1], (b"", b"\x15", b"\x16"), answer[:50].hex())

    def test_hellos_that_end_too_soon(self):
        hello = client_hello(self.context)
        for size in [*range(0, 60), *range(60, len(hello), 7)]:
            with self.subTest(size), Plain(self.server.port) as link:
                self.assert_alert(link.send(hello[:size]).half_close().rest())

    def test_noise_after_a_hello(self):
        """In place of the second flight, in the clear and as if it were encrypted."""
        noise = random.Random(20261128)
        for index in range(60):
            with self.subTest(index), Plain(self.server.port) as link:
                link.send(client_hello(self.context))
                body = noise.randbytes(noise.choice([1, 40, 1000]))
                first = noise.choice([20, 21, 22, 23, 24])
                link.send(bytes([first, 3, 3]) + len(body).to_bytes(2, "big") + body).half_close().rest()

    def test_noise_within_tls(self):
        """A record that cannot be decrypted ends an established connection."""
        for record in (23, 22, 21, 99):
            with self.subTest(record), Plain(self.server.port) as link:
                handshake = self.shake(link)
                link.send(handshake.seal(connect(5)))
                link.send(bytes([record, 3, 3, 0, 40]) + bytes(40)).rest()

    def shake(self, link, size=None):
        """A handshake by hand, each flight in pieces of `size` bytes."""
        handshake = Handshake(self.context)
        while True:
            flight = handshake.flight()
            step = size or len(flight) or 1
            for start in range(0, len(flight), step):
                link.send(flight[start : start + step])
            if handshake.done:
                return handshake
            data = link.receive()
            self.assertTrue(data, "closed in the handshake")
            handshake.incoming.write(data)

    # Slow but right

    def test_a_handshake_byte_by_byte(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.maximum_version = version
            with self.subTest(version.name), Plain(self.server.port) as link:
                handshake = self.shake(link, 1)
                # CONNECT too, and then each of its bytes in a record of its own.
                for byte in handshake.seal(connect(5, "slow")):
                    link.send(bytes([byte]))
                for byte in PINGREQ + DISCONNECT:
                    link.send(handshake.seal(bytes([byte])))
                handshake.incoming.write(link.rest())
                answers = b"".join(iter(lambda: handshake.tls.read(1000), b""))
                self.assertEqual((answers[:1], answers[-2:]), (b"\x20", PINGRESP), answers.hex())

    def test_mqtt_byte_by_byte(self):
        with Plain(self.server.plain_port) as link:
            for byte in connect(4, "slow") + PINGREQ + DISCONNECT:
                link.send(bytes([byte]))
            self.assertEqual(link.rest(), b"\x20\x02\0\0\xd0\x00")

    # Silence

    def test_stalls_are_cut_off(self):
        """All at once: each is cut off by the time-out, not before it and not long after."""
        hello = client_hello(self.context)
        tls = lambda data: Plain(self.server.port).send(data)
        plain = lambda data: Plain(self.server.plain_port).send(data)
        shaken = Plain(self.server.port)
        self.shake(shaken)
        half = Plain(self.server.port)
        half.send(self.shake(half).seal(connect(5)[:7]))
        started = time.monotonic()
        dripping = tls(b"")
        links = {
            "nothing": tls(b""),
            "one byte of a hello": tls(hello[:1]),
            "half a hello": tls(hello[: len(hello) // 2]),
            "a hello and nothing more": tls(hello),
            "a hello of which the rest is announced": tls(hello[:-1]),
            "a handshake without MQTT": shaken,
            "a handshake and half a CONNECT": half,
            "a hello in drops": dripping,
            "plain: nothing": plain(b""),
            "plain: one byte": plain(b"\x10"),
            "plain: half a CONNECT": plain(connect(5)[:7]),
        }
        ends = {}

        def watch(name, link):
            try:
                link.rest(3 * ACCEPT_TIMEOUT)
                ends[name] = time.monotonic() - started
            except AssertionError:
                ends[name] = None

        watchers = [threading.Thread(target=watch, args=each) for each in links.items()]
        for watcher in watchers:
            watcher.start()
        # Drops do not move the time-out: one each tenth of it.
        for index in range(40):
            watchers[0].join(ACCEPT_TIMEOUT / 10)
            if "a hello in drops" in ends:
                break
            dripping.send(hello[index : index + 1])
        for watcher in watchers:
            watcher.join()
        for link in links.values():
            link.socket.close()
        for name, end in ends.items():
            with self.subTest(name):
                self.assertIsNotNone(end, "it hangs")
                self.assertTrue(ACCEPT_TIMEOUT - 1 < end < ACCEPT_TIMEOUT + 5, f"after {end:.1f} s")

    def test_a_keep_alive_that_is_broken(self):
        """One and a half times the keep alive without a packet (v5 [MQTT-3.1.2-22])."""
        for version in (4, 5):
            with self.subTest(version), Plain(self.server.plain_port) as link:
                started = time.monotonic()
                answer = link.connect(version, "silent", keep_alive=1).rest()
                self.assertTrue(1.4 < time.monotonic() - started < 4)
                # 0x8D: Keep Alive timeout.
                self.assertEqual(answer[:1] + answer[2:3], b"\xe0\x8d" if version == 5 else b"")

    def test_1000_connections_that_say_nothing(self):
        """A normal client gets in while they are there, within the 10 s that awscrt gives a connection to come up."""
        silent = [Plain(port) for port in (self.server.port, self.server.plain_port) for _ in range(500)]
        try:
            started = time.monotonic()
            for way, open_link in {
                "plain": lambda: Plain(self.server.plain_port),
                "TLS": lambda: Tls(self.server.port, self.context),
            }.items():
                with self.subTest(way), open_link() as link:
                    link.socket.settimeout(ACCEPT_TIMEOUT)
                    link.connect(5, f"patient-{way}").ping()
            self.assertLess(time.monotonic() - started, ACCEPT_TIMEOUT)
            self.assert_memory(50 * MIB)
        finally:
            for each in silent:
                each.socket.close()

    # Ends

    def test_resets_in_the_handshake(self):
        hello = client_hello(self.context)
        for index in range(300):
            Plain(self.server.port).send(hello[: index * 2] if index % 2 else hello).reset()
        for _ in range(50):
            link = Plain(self.server.port)
            link.send(hello)
            link.receive(1)
            link.reset()
        for _ in range(50):
            Plain(self.server.plain_port).connect(5, "reset").reset()

    def test_half_closed(self):
        """Who has sent FIN is done: what it asked for is answered, then the connection is closed."""
        for way in ("plain", "TLS"):
            with self.subTest(way):
                link = Plain(self.server.plain_port) if way == "plain" else Tls(self.server.port, self.context)
                with link:
                    link.send(connect(4, "half") + PINGREQ)
                    link.half_close()
                    link.rest()

    def test_a_close_notify_is_answered(self):
        with Plain(self.server.port) as link:
            handshake = self.shake(link)
            link.send(handshake.seal(connect(4)))
            handshake.incoming.write(link.receive())
            self.assertEqual(handshake.tls.read(1000)[:1], b"\x20")
            with self.assertRaises(ssl.SSLWantReadError):
                handshake.tls.unwrap()
            link.send(handshake.outgoing.read())
            handshake.incoming.write(link.rest())
            handshake.tls.unwrap()  # raises without a close_notify in answer

    def test_connections_that_come_and_go(self):
        """2,000 of them leave no memory behind."""
        for index in range(2000):
            with Plain(self.server.plain_port) as link:
                link.connect(5, f"device-{index}").send(DISCONNECT)
        self.assert_memory(20 * MIB)

    # Peers that do not read

    def ways(self):
        """Connections with little room for what is not read."""
        return {
            "plain": lambda: Plain(self.server.plain_port, receive_buffer=4096),
            "TLS": lambda: Tls(self.server.port, self.context, receive_buffer=4096),
        }

    def subscriber(self, link, name, qos):
        link.connect(5, name).send(subscribe(5, "load", options=qos))
        self.assertEqual(link.packet()[0], 0x90)
        return link

    def test_a_subscriber_that_does_not_read(self):
        """300 MB come for it: what waits is bounded, its publisher is not held up, and QoS 1 ends its connection."""
        for way, qos in (("plain", 0), ("plain", 1), ("TLS", 0), ("TLS", 1)):
            with self.subTest(f"{way}, {qos}"), self.ways()[way]() as deaf, Plain(self.server.plain_port) as publisher:
                self.subscriber(deaf, "deaf", qos)
                publisher.connect(5, "loud")
                message = publish(5, "load", bytes(200_000), first=0x30 | qos << 1, packet_id=1 if qos else None)
                for _ in range(1500):
                    publisher.send(message)
                    if qos:
                        self.assertEqual(publisher.packet()[0], 0x40)
                publisher.ping()
                self.assert_memory(120 * MIB)
                if qos:
                    # It is cut off; what was on its way may still come.
                    deaf.rest(30)
                else:
                    deaf.reset()

    def test_a_slow_subscriber_gets_all_in_order(self):
        for way, open_link in self.ways().items():
            with self.subTest(way), open_link() as link:
                self.slow_subscriber(self.subscriber(link, "slow", 1), 300)

    def slow_subscriber(self, slow, count):
        with Plain(self.server.plain_port) as publisher:
            publisher.connect(5, "brisk")
            for index in range(count):
                publisher.send(publish(5, "load", index.to_bytes(4, "big") * 2500, first=0x32, packet_id=index + 1))
            received = []
            while len(received) < count:
                first, body = slow.packet()
                self.assertEqual(first, 0x32)
                received.append(int.from_bytes(body[-4:], "big"))
                slow.send(packet(0x40, body[6:8]))  # after the topic `load` and its length
            self.assertEqual(received, list(range(count)))

    def test_a_client_that_does_not_read_its_answers(self):
        """Floods of requests: their answers are bounded, by backpressure or by an end of the connection."""
        floods = {
            "PINGREQ": PINGREQ * 32_768,
            "SUBSCRIBE": subscribe(5, *(f"a/{index}" for index in range(50))) * 50,
            "PUBLISH": publish(5, "nobody", b"x", first=0x32, packet_id=1) * 5000,
        }
        for name, data in floods.items():
            for way, open_link in self.ways().items():
                with self.subTest(f"{way}: {name}"), open_link() as link:
                    link.connect(5, "flood")
                    link.socket.settimeout(2)
                    sent = 0
                    try:
                        while sent < 32 * MIB:
                            link.socket.sendall(data)
                            sent += len(data)
                    except (TimeoutError, ConnectionError, ssl.SSLError):
                        pass  # it is held up, or ended
                    self.assert_memory(60 * MIB)
                    self.serves()
