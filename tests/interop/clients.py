"""Foreign MQTT clients behind one face, and a relay that can lose a connection.

Each adapter connects, subscribes, publishes and collects what arrives; what a library calls these things, and how it
reports an end, stays here. `awscrt` and `paho-mqtt` are imported when they are first used, from the tests' own
environment.
"""

import dataclasses
import socket
import ssl
import threading

ALPN_CERTIFICATE = "x-amzn-mqtt-ca"
ALPN_PASSWORD = "mqtt"
# Generous: the machine may be shared. A test that waits this long has failed.
WAIT = 30


@dataclasses.dataclass
class Message:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    # Names as in v5 section 3.3.2.3; only what is there.
    properties: dict = dataclasses.field(default_factory=dict)


class Inbox:
    """What has arrived, in its order."""

    def __init__(self):
        self.messages = []
        self.changed = threading.Condition()

    def add(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, count, timeout=WAIT):
        """The first `count` messages, or all there are at the deadline."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.messages) >= count, timeout)
            return list(self.messages)


class Settings:
    """How a client is to connect. `device` is an Identity, `user` a pair of name and password, `will` a Message."""

    def __init__(self, port, ca, client_id, device=None, user=None, alpn=None, keep_alive=60, will=None):
        self.host = "localhost"
        self.port = port
        self.ca = str(ca)
        self.client_id = client_id
        self.device = device and (str(device.certificate), str(device.key))
        self.user = user
        self.alpn = alpn or [ALPN_CERTIFICATE if device else ALPN_PASSWORD]
        self.keep_alive = keep_alive
        self.will = will


class Client:
    """What the adapters share."""

    def __init__(self, settings):
        self.settings = settings
        self.inbox = Inbox()
        self.ended = threading.Event()
        # What the library said at the end: an exception, a reason code, or nothing.
        self.end = None

    def __enter__(self):
        self.connect()
        return self

    def __exit__(self, *_):
        self.close()


class Paho(Client):
    library = "paho"
    version = 4

    def connect(self):
        from paho.mqtt import client as paho
        from paho.mqtt.properties import Properties
        from paho.mqtt.packettypes import PacketTypes

        self.paho, self.packet_types, self.properties_type = paho, PacketTypes, Properties
        settings = self.settings
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, settings.client_id, protocol=self.version, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.device:
            context.load_cert_chain(*settings.device)
        context.set_alpn_protocols(settings.alpn)
        self.client.tls_set_context(context)
        if settings.user:
            self.client.username_pw_set(*settings.user)
        if settings.will:
            will = settings.will
            properties = self._properties(will.properties, PacketTypes.WILLMESSAGE)
            self.client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        self._up, self._granted = threading.Event(), {}
        self._granting = threading.Condition()
        self._refusal = None
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.connect(settings.host, settings.port, settings.keep_alive)
        # The TLS handshake is over; what the endpoint says to a certificate comes after it in TLS 1.3.
        self.client.loop_start()
        if not self._up.wait(WAIT):
            raise TimeoutError("no CONNACK")
        if self._refusal is not None:
            raise ConnectionRefusedError(str(self._refusal))

    def _on_connect(self, _client, _data, _flags, reason, _properties):
        if reason.is_failure:
            self._refusal = reason
        self._up.set()

    def _on_disconnect(self, _client, _data, _flags, reason, _properties):
        self.end = reason
        if not self._up.is_set():
            self._refusal = reason
            self._up.set()
        self.ended.set()

    def _on_subscribe(self, _client, _data, packet_id, reasons, _properties):
        with self._granting:
            self._granted[packet_id] = [reason.value for reason in reasons]
            self._granting.notify_all()

    def _on_message(self, _client, _data, message):
        properties = {}
        given = message.properties
        if given is not None:
            for name, theirs in self.NAMES.items():
                if hasattr(given, theirs):
                    properties[name] = getattr(given, theirs)
        self.inbox.add(Message(message.topic, message.payload, message.qos, bool(message.retain), properties))

    # In `paho` the properties are attributes, named as in the specification.
    NAMES = {
        "payload_format": "PayloadFormatIndicator",
        "message_expiry": "MessageExpiryInterval",
        "content_type": "ContentType",
        "response_topic": "ResponseTopic",
        "correlation_data": "CorrelationData",
        "user_properties": "UserProperty",
    }

    def _properties(self, ours, packet_type):
        if self.version != 5 or not ours:
            return None
        properties = self.properties_type(packet_type)
        for name, value in ours.items():
            for each in value if name == "user_properties" else [value]:
                setattr(properties, self.NAMES[name], each)
        return properties

    def subscribe(self, *filters):
        """Subscribes to pairs of filter and QoS; returns what SUBACK says."""
        if self.version == 5:
            from paho.mqtt.subscribeoptions import SubscribeOptions

            filters = [(name, SubscribeOptions(qos=qos)) for name, qos in filters]
        _, packet_id = self.client.subscribe(list(filters))
        with self._granting:
            if not self._granting.wait_for(lambda: packet_id in self._granted, WAIT):
                raise TimeoutError("no SUBACK")
            return self._granted[packet_id]

    def publish(self, message):
        """Starts a publish; what it returns waits for its end."""
        properties = self._properties(message.properties, self.packet_types.PUBLISH)
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain, properties)

        def wait():
            info.wait_for_publish(WAIT)
            if not info.is_published():
                raise TimeoutError("no PUBACK")

        return wait

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Paho5(Paho):
    version = 5


class Crt(Client):
    """The 3.1.1 client of AWS's common runtime."""

    library = "awscrt"
    version = 4

    def _tls(self):
        from awscrt import io

        settings = self.settings
        if settings.device:
            options = io.TlsContextOptions.create_client_with_mtls_from_path(*settings.device)
        else:
            options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, settings.ca)
        options.alpn_list = settings.alpn
        return io.ClientTlsContext(options)

    def connect(self):
        from awscrt import mqtt

        settings = self.settings
        user, password = settings.user or (None, None)
        will = settings.will and mqtt.Will(
            settings.will.topic, mqtt.QoS(settings.will.qos), settings.will.payload, settings.will.retain
        )
        self.mqtt = mqtt
        self._use(
            mqtt.Connection(
                client=mqtt.Client(tls_ctx=self._tls()),
                host_name=settings.host,
                port=settings.port,
                client_id=settings.client_id,
                keep_alive_secs=settings.keep_alive,
                ping_timeout_ms=min(3000, settings.keep_alive * 500),
                # It cannot be told to stay away. It would take its client id back within the test.
                reconnect_min_timeout_secs=120,
                reconnect_max_timeout_secs=120,
                username=user,
                password=password,
                will=will,
                on_connection_interrupted=self._on_interrupted,
            )
        )

    def _use(self, connection):
        from awscrt import mqtt

        self.mqtt = mqtt
        self.connection, self._connected = connection, False
        connection.on_message(self._on_message)
        connection.connect().result(WAIT)
        self._connected = True

    def _on_interrupted(self, connection, error, **_):
        self.end = error
        self.ended.set()

    def _on_message(self, topic, payload, dup, qos, retain, **_):
        self.inbox.add(Message(topic, payload, int(qos), retain))

    def subscribe(self, *filters):
        granted = []
        for name, qos in filters:
            future, _ = self.connection.subscribe(name, self.mqtt.QoS(qos))
            granted.append(int(future.result(WAIT)["qos"]))
        return granted

    def publish(self, message):
        future, _ = self.connection.publish(
            message.topic, message.payload, self.mqtt.QoS(message.qos), message.retain
        )
        return lambda: future.result(WAIT)

    def close(self):
        disconnected = self.connection.disconnect()
        # Unless it is connected it does not finish this.
        if self._connected and not self.ended.is_set():
            self._connected = False
            disconnected.result(WAIT)


class Crt5(Crt):
    """The 5.0 client of AWS's common runtime."""

    version = 5

    def connect(self):
        from awscrt import mqtt5

        settings = self.settings
        user, password = settings.user or (None, None)
        self.mqtt5 = mqtt5
        options = mqtt5.ClientOptions(
            host_name=settings.host,
            port=settings.port,
            tls_ctx=self._tls(),
            connect_options=mqtt5.ConnectPacket(
                client_id=settings.client_id,
                keep_alive_interval_sec=settings.keep_alive,
                username=user,
                password=password,
                will=settings.will and self._packet(settings.will),
            ),
            ping_timeout_ms=min(3000, settings.keep_alive * 500),
            # As above.
            min_reconnect_delay_ms=120_000,
            max_reconnect_delay_ms=120_000,
        )
        self._start(options, mqtt5.Client)

    def _start(self, options, make):
        """`make` turns options into a client: the constructor, or a builder of the SDK."""
        from awscrt import mqtt5

        self.mqtt5 = mqtt5
        self._up, self._failure, self._stopped = threading.Event(), None, threading.Event()
        options.on_publish_callback_fn = self._on_publish
        options.on_lifecycle_event_connection_success_fn = self._on_success
        options.on_lifecycle_event_connection_failure_fn = self._on_failure
        options.on_lifecycle_event_disconnection_fn = self._on_disconnection
        options.on_lifecycle_event_stopped_fn = lambda _: self._stopped.set()
        self.client = make(options)
        self.client.start()
        if not self._up.wait(WAIT):
            raise TimeoutError("no CONNACK")
        if self._failure is not None:
            self.close()
            raise ConnectionRefusedError(repr(self._failure))

    def _on_success(self, data):
        self.connack, self.negotiated = data.connack_packet, data.negotiated_settings
        self._up.set()

    def _on_failure(self, data):
        self._failure = data
        self._up.set()

    def _on_disconnection(self, data):
        self.end = data.disconnect_packet and int(data.disconnect_packet.reason_code)
        self.ended.set()

    # Our names are theirs, but for two.
    NAMES = {
        "payload_format": "payload_format_indicator",
        "message_expiry": "message_expiry_interval_sec",
        "content_type": "content_type",
        "response_topic": "response_topic",
        "correlation_data": "correlation_data_bytes",
        "user_properties": "user_properties",
    }

    def _packet(self, message):
        mqtt5 = self.mqtt5
        properties = {self.NAMES[name]: value for name, value in message.properties.items()}
        if "user_properties" in properties:
            properties["user_properties"] = [mqtt5.UserProperty(*pair) for pair in properties["user_properties"]]
        if "payload_format_indicator" in properties:
            properties["payload_format_indicator"] = mqtt5.PayloadFormatIndicator(
                properties["payload_format_indicator"]
            )
        return mqtt5.PublishPacket(
            topic=message.topic,
            payload=message.payload,
            qos=mqtt5.QoS(message.qos),
            retain=message.retain,
            **properties,
        )

    def _on_publish(self, data):
        packet = data.publish_packet
        properties = {}
        for name, theirs in self.NAMES.items():
            value = getattr(packet, theirs)
            if value is None or value == []:
                continue
            if name == "user_properties":
                value = [(pair.name, pair.value) for pair in value]
            properties[name] = int(value) if name == "payload_format" else value
        self.inbox.add(Message(packet.topic, packet.payload or b"", int(packet.qos), packet.retain, properties))

    def subscribe(self, *filters):
        subscriptions = [self.mqtt5.Subscription(name, self.mqtt5.QoS(qos)) for name, qos in filters]
        suback = self.client.subscribe(self.mqtt5.SubscribePacket(subscriptions)).result(WAIT)
        return [int(code) for code in suback.reason_codes]

    def publish(self, message):
        future = self.client.publish(self._packet(message))
        return lambda: future.result(WAIT)

    def close(self):
        # Without the packet it leaves without a DISCONNECT, and its will is set free.
        self.client.stop(self.mqtt5.DisconnectPacket())
        self._stopped.wait(WAIT)


class Sdk(Crt):
    """The 3.1.1 client as `awsiotsdk` builds it, with its own user name, port and ALPN name."""

    library = "awsiot"

    def connect(self):
        from awsiot import mqtt_connection_builder as builder

        settings = self.settings
        common = {"endpoint": settings.host, "ca_filepath": settings.ca, "client_id": settings.client_id}
        if settings.device:
            certificate, key = settings.device
            self._use(builder.mtls_from_path(cert_filepath=certificate, pri_key_filepath=key, **common))
        else:
            user, password = settings.user
            self._use(builder.direct_with_custom_authorizer(auth_username=user, auth_password=password, **common))


class Sdk5(Crt5):
    """The 5.0 client as `awsiotsdk` builds it."""

    library = "awsiot"

    def connect(self):
        from awscrt import mqtt5
        from awsiot import mqtt5_client_builder as builder

        settings = self.settings
        options = mqtt5.ClientOptions(host_name=settings.host)
        options.connect_options = mqtt5.ConnectPacket(client_id=settings.client_id)
        common = {"endpoint": settings.host, "ca_filepath": settings.ca, "client_options": options}
        if settings.device:
            certificate, key = settings.device
            self._start(options, lambda _: builder.mtls_from_path(certificate, key, **common))
        else:
            user, password = settings.user
            make = builder.direct_with_custom_authorizer
            self._start(options, lambda _: make(auth_username=user, auth_password=password, **common))


class Relay:
    """A TCP relay on a free port: it counts what passes, and can lose the connection as a dead radio would."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.connections, self.sent, self.received = 0, 0, 0
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            with self.changed:
                self.connections += 1
                self.sockets += [client, server]
            for name, source, sink in (("sent", client, server), ("received", server, client)):
                threading.Thread(target=self._pump, args=(name, source, sink), daemon=True).start()

    def _pump(self, name, source, sink):
        try:
            while data := source.recv(65536):
                with self.changed:
                    setattr(self, name, getattr(self, name) + 1)
                    self.changed.notify_all()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def wait(self, condition, timeout=WAIT):
        with self.changed:
            return self.changed.wait_for(lambda: condition(self), timeout)

    def cut(self):
        """Ends both sides; no MQTT and no TLS has said goodbye."""
        self._end(self.listener)
        while self.sockets:
            self._end(self.sockets.pop())

    @staticmethod
    def _end(each):
        try:
            each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        except OSError:
            pass
        each.close()
