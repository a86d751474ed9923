"""Real clients against our endpoint: what they subscribe to arrives, in order, byte for byte."""

import fcntl
import socket
import tempfile
from pathlib import Path

from clients import ALPN_CERTIFICATE, WAIT, Crt, Crt5, Message, Paho, Paho5, Relay, Sdk, Sdk5, Settings
from harness import wait_until
from ours import USER, EndpointTest, require_package

# Every byte value, so no UTF-8.
BYTES = bytes(range(256))
# What a 5.0 PUBLISH can say about its message, but for the expiry, which shrinks with time.
PROPERTIES = {
    "payload_format": 1,
    "content_type": "text/plain; charset=utf-8",
    "response_topic": "answers/\u00fc",
    "correlation_data": BYTES,
    "user_properties": [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("\u00e4", "\u2103")],
}


def payloads():
    """50 of them: empty, one byte, no UTF-8, 100 KB, and numbered ones."""
    odd = [b"", b"\0", b"\xff", BYTES, b"\xc3\x28\xed\xa0\x80", BYTES * 400]
    return odd + [f"message {index}".encode() for index in range(len(odd), 50)]


class Exercises(EndpointTest):
    """What every library has to do; the classes below say which one."""

    client = None
    heeds_limits = False

    @classmethod
    def setUpClass(cls):
        require_package(cls.client.library)

    def setUp(self):
        super().setUp()
        self.server = self.serve()

    def connect(self, name, make=None, port=None, **settings):
        """A connected client with a certificate of its own."""
        if "user" not in settings:
            settings["device"] = self.device(name)
        client = (make or self.client)(Settings(port or self.server.port, self.server.ca, name, **settings))
        client.connect()
        self.addCleanup(client.close)
        return client

    def publish(self, client, *messages):
        for wait in [client.publish(message) for message in messages]:
            wait()

    def compare(self, sent, received):
        self.assertEqual([(m.topic, len(m.payload)) for m in received], [(m.topic, len(m.payload)) for m in sent])
        for ours, theirs in zip(sent, received):
            self.assertEqual(ours, theirs)

    def order_and_bytes(self, qos):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        self.assertEqual(subscriber.subscribe(("telemetry", qos)), [qos])
        sent = [Message("telemetry", payload, qos) for payload in payloads()]
        self.publish(publisher, *sent)
        self.compare(sent, subscriber.inbox.wait(len(sent)))

    def test_order_and_bytes_with_qos_0(self):
        self.order_and_bytes(0)

    def test_order_and_bytes_with_qos_1(self):
        self.order_and_bytes(1)

    def test_one_client_hears_itself(self):
        client = self.connect("device-0")
        client.subscribe(("echo", 1))
        sent = [Message("echo", payload, 1) for payload in payloads()]
        self.publish(client, *sent)
        self.compare(sent, client.inbox.wait(len(sent)))

    def test_the_lower_qos_counts(self):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        self.assertEqual(subscriber.subscribe(("low", 0), ("high", 1)), [0, 1])
        self.publish(publisher, Message("low", b"", 1), Message("high", b"", 0))
        self.compare([Message("low", b"", 0), Message("high", b"", 0)], subscriber.inbox.wait(2))

    def test_wildcards(self):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        self.assertEqual(subscriber.subscribe(("a/+/c", 1), ("x/#", 0)), [1, 0])
        topics = ["a/b/c", "a//c", "x", "x/y", "x/y/z"]
        # What no filter matches comes between; the last message says that it is not just late.
        others = ["a/b/c/d", "a/c", "A/b/c", "y", "/x"]
        for pair in zip(topics, others):
            self.publish(publisher, *(Message(topic, topic.encode(), 1) for topic in reversed(pair)))
        expected = [Message(topic, topic.encode(), int(topic[0] == "a")) for topic in topics]
        self.compare(expected, subscriber.inbox.wait(len(topics)))

    def test_unicode_topics(self):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        topics = ["h\u00f6he/\u2103", "\u6e29\u5ea6/\u5ba4\u5185", "\U0001f321/\U0001f468\u200d\U0001f469", "a b/ c "]
        subscriber.subscribe(*((topic, 1) for topic in topics))
        sent = [Message(topic, topic.encode("utf-16"), 1) for topic in topics]
        self.publish(publisher, *sent)
        self.compare(sent, subscriber.inbox.wait(len(sent)))

    def test_retained(self):
        publisher = self.connect("publisher")
        self.publish(
            publisher,
            Message("state/a", b"old", 1, True),
            Message("state/a", BYTES, 1, True),
            Message("state/b", b"removed", 1, True),
            Message("state/b", b"", 1, True),
            Message("state/c", b"passing", 1, False),
        )
        subscriber = self.connect("subscriber")
        subscriber.subscribe(("state/#", 1))
        # The retained one is marked as such; a later one to the same subscriber is not.
        self.publish(publisher, Message("state/a", b"new", 1, True))
        expected = [Message("state/a", BYTES, 1, True), Message("state/a", b"new", 1, False)]
        self.compare(expected, subscriber.inbox.wait(2))

    def test_a_will_after_an_abrupt_end(self):
        witness = self.connect("witness")
        witness.subscribe(("wills/+", 1))
        will = Message("wills/device-0", BYTES, 1)
        with Relay(self.server.port) as relay:
            self.connect("device-0", port=relay.port, will=will)
            relay.cut()
            self.compare([will], witness.inbox.wait(1))

    def test_no_will_after_a_disconnect(self):
        witness = self.connect("witness")
        witness.subscribe(("wills/+", 1))
        self.connect("device-0", will=Message("wills/device-0", b"lost", 1)).close()
        # Whoever takes the name again would find the old connection, were it still there, and set its will free.
        self.connect("device-0")
        self.publish(witness, Message("wills/none", b"", 1))
        self.compare([Message("wills/none", b"", 1)], witness.inbox.wait(1))

    def test_the_keep_alive_holds_an_idle_connection(self):
        with Relay(self.server.port) as relay:
            client = self.connect("device-0", port=relay.port, keep_alive=2)
            client.subscribe(("still/here", 1))
            sent, received = relay.sent, relay.received
            # Two pings and their answers take longer than the 3 s after which the endpoint gives a silent client up.
            self.assertTrue(
                relay.wait(lambda now: now.sent >= sent + 2 and now.received >= received + 2),
                f"pings: {relay.sent - sent} sent, {relay.received - received} answered",
            )
            self.publish(client, Message("still/here", b"yes", 1))
            self.compare([Message("still/here", b"yes", 1)], client.inbox.wait(1))
            self.assertEqual(relay.connections, 1)

    def test_a_client_id_is_taken_over(self):
        first = self.connect("device-0")
        second = self.connect("device-0")
        self.assertTrue(first.ended.wait(WAIT), "the first connection lives on")
        second.subscribe(("mine", 1))
        self.publish(second, Message("mine", b"now", 1))
        self.compare([Message("mine", b"now", 1)], second.inbox.wait(1))
        self.assertFalse(second.ended.is_set())
        return first

    def test_a_message_above_the_limit(self):
        """256 KB are announced; some clients heed it, of the others the connection ends."""
        client, other = self.connect("device-0"), self.connect("device-1")
        wait = client.publish(Message("big", bytes(300_000), 1))
        if self.heeds_limits:
            with self.assertRaises(Exception):
                wait()
        else:
            self.assertTrue(client.ended.wait(WAIT), "the connection lives on")
        other.subscribe(("small", 1))
        self.publish(other, Message("small", b"", 1))
        self.compare([Message("small", b"", 1)], other.inbox.wait(1))

    def test_alpn_mqtt_takes_user_and_password(self):
        client = self.connect("device-0", user=USER)
        client.subscribe(("a", 1))
        self.publish(client, Message("a", b"b", 1))
        self.compare([Message("a", b"b", 1)], client.inbox.wait(1))

    def test_alpn_mqtt_refuses_a_wrong_password(self):
        with self.assertRaises(Exception) as raised:
            self.connect("device-0", user=(USER[0], "wrong"))
        self.assertRegex(str(raised.exception), self.wrong_password)

    def test_another_alpn_name_is_refused(self):
        with self.assertRaises(Exception) as raised:
            self.connect("device-0", alpn=["h2"])
        self.assertRegex(str(raised.exception), "(?i)alpn|alert|no.application.protocol|tls")

    def test_without_a_certificate_there_is_no_connack(self):
        settings = Settings(self.server.port, self.server.ca, "device-0", alpn=[ALPN_CERTIFICATE])
        client = self.client(settings)
        with self.assertRaises(Exception) as raised:
            client.connect()
        self.addCleanup(client.close)
        self.assertNotIsInstance(raised.exception, TimeoutError, "it was left without an answer")


class Exercises5(Exercises):
    """What 5.0 adds."""

    def test_properties_pass_unaltered(self):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        subscriber.subscribe(("p", 1))
        sent = [
            Message("p", "21 \u2103".encode(), 1, properties=PROPERTIES),
            Message("p", b"", 0, properties={"correlation_data": b"\0", "user_properties": [("only", "this")]}),
            Message("p", b"none", 1),
        ]
        self.publish(publisher, *sent)
        self.compare(sent, subscriber.inbox.wait(len(sent)))

    def test_message_expiry_passes(self):
        subscriber, publisher = self.connect("subscriber"), self.connect("publisher")
        subscriber.subscribe(("p", 1))
        self.publish(publisher, Message("p", b"soon stale", 1, properties={"message_expiry": 600}))
        [received] = subscriber.inbox.wait(1)
        self.assertIn(received.properties.get("message_expiry"), range(580, 601))

    def test_retained_properties(self):
        publisher = self.connect("publisher")
        self.publish(publisher, Message("p", b"kept", 1, True, {**PROPERTIES, "message_expiry": 600}))
        subscriber = self.connect("subscriber")
        subscriber.subscribe(("p", 1))
        [received] = subscriber.inbox.wait(1)
        self.assertIn(received.properties.pop("message_expiry", None), range(580, 601))
        self.compare([Message("p", b"kept", 1, True, PROPERTIES)], [received])

    def test_a_will_keeps_its_properties(self):
        witness = self.connect("witness")
        witness.subscribe(("wills/+", 1))
        will = Message("wills/device-0", "21 \u2103".encode(), 1, properties=PROPERTIES)
        with Relay(self.server.port) as relay:
            self.connect("device-0", port=relay.port, will=will)
            relay.cut()
            self.compare([will], witness.inbox.wait(1))

    def test_a_client_id_is_taken_over(self):
        first = super().test_a_client_id_is_taken_over()
        self.assertEqual(getattr(first.end, "value", first.end), 0x8E)


class PahoClient(Exercises):
    """paho-mqtt with MQTT 3.1.1."""

    client = Paho
    wrong_password = "(?i)bad user name or password"


class PahoClient5(Exercises5):
    """paho-mqtt with MQTT 5.0."""

    client = Paho5
    wrong_password = "(?i)bad user name or password"


class CrtClient(Exercises):
    """awscrt's client for MQTT 3.1.1."""

    client = Crt
    wrong_password = "(?i)bad.username|refused|rejected|protocol"


class CrtClient5(Exercises5):
    """awscrt's client for MQTT 5.0."""

    client = Crt5
    heeds_limits = True
    wrong_password = "(?i)BAD_USERNAME_OR_PASSWORD"




class Mixed(EndpointTest):
    """Each library and version with each other."""

    clients = (Paho, Paho5, Crt, Crt5)

    @classmethod
    def setUpClass(cls):
        for each in cls.clients:
            require_package(each.library)

    def test_each_hears_each(self):
        server = self.serve()
        clients = []
        for index, make in enumerate(self.clients):
            name = f"device-{index}"
            client = make(Settings(server.port, server.ca, name, self.device(name)))
            client.connect()
            self.addCleanup(client.close)
            client.subscribe(("from/+", 1))
            clients.append(client)
        # 3.1.1 has no properties: it sends none, and receives the message without them.
        sent = {
            f"from/{index}": [
                Message(f"from/{index}", b"%d" % number, 1, properties=PROPERTIES if client.version == 5 else {})
                for number in range(20)
            ]
            for index, client in enumerate(clients)
        }
        waits = [client.publish(message) for client, each in zip(clients, sent.values()) for message in each]
        for wait in waits:
            wait()
        for client in clients:
            received = client.inbox.wait(20 * len(clients))
            for topic, messages in sent.items():
                if client.version != 5:
                    messages = [Message(topic, message.payload, 1) for message in messages]
                self.assertEqual([message for message in received if message.topic == topic], messages)


class SdkBuilders(EndpointTest):
    """awsiotsdk's builders, which want port 443."""

    clients = {"3.1.1": Sdk, "5.0": Sdk5}

    @classmethod
    def setUpClass(cls):
        require_package("awsiot")

    def setUp(self):
        super().setUp()
        self.server = self.serve(f"127.0.0.1:{self.port_443()}")

    def port_443(self):
        """Waits until nobody listens there, as another run of these tests does for a while."""
        lock = open(Path(tempfile.gettempdir()) / "fleetwire-interop-443.lock", "w")
        self.addCleanup(lock.close)

        def free():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.create_server(("127.0.0.1", 443)):
                    return True
            except PermissionError:
                self.skipTest("port 443 is not permitted to this user")
            except OSError:
                return False

        try:
            wait_until(free, "port 443 is free", 15)
        except AssertionError:
            self.skipTest("port 443 of 127.0.0.1 is taken")
        return 443

    def exercise(self, **settings):
        for version, make in self.clients.items():
            with self.subTest(version):
                client = make(Settings(443, self.server.ca, f"device-{version}", **settings))
                with client:
                    self.assertEqual(client.subscribe(("telemetry", 1)), [1])
                    sent = [Message("telemetry", payload, 1) for payload in payloads()]
                    for wait in [client.publish(message) for message in sent]:
                        wait()
                    self.assertEqual(client.inbox.wait(len(sent)), sent)

    def test_a_certificate(self):
        self.exercise(device=self.device())

    def test_a_custom_authorizer(self):
        """The SDK appends its own name to the user's: `ann?SDK=..`."""
        self.exercise(user=USER)

    def test_a_wrong_password(self):
        for version, make in self.clients.items():
            with self.subTest(version), self.assertRaises(Exception) as raised:
                make(Settings(443, self.server.ca, "device-0", user=(USER[0], "wrong"))).connect()
            self.assertNotIsInstance(raised.exception, TimeoutError)


del Exercises, Exercises5  # no tests by themselves
