"""paho-mqtt as a device, driven from the command line. README.md says what the acts do."""

import argparse
import json
import os
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 60


class Device:
    def __init__(self, args, keep):
        self.id, self.url, self.five, self.keep = args.id, urlsplit(args.url), args.protocol == 5, keep
        self.changed = threading.Condition()
        self.answer = self.lost = None
        self.kept = False
        self.granted = []
        self.acknowledged = {}
        self.heard = set()

        clean = {} if self.five else {"clean_session": not keep}
        self.client = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            args.id,
            protocol=mqtt.MQTTv5 if self.five else mqtt.MQTTv311,
            transport="websockets" if self.url.scheme.startswith("ws") else "tcp",
            reconnect_on_failure=False,
            **clean,
        )
        client.connect_timeout = PATIENCE_S
        if args.secret:
            client.username_pw_set(args.id, args.secret)
        if self.url.scheme in ("mqtts", "wss"):
            client.tls_set(ca_certs=args.ca, certfile=args.cert, keyfile=args.key)
        if keep:
            client.will_set(f"devices/{args.id}/status", "gone", qos=1)
        client.on_connect = self.on_connect
        client.on_disconnect = self.on_disconnect
        client.on_subscribe = self.on_subscribe
        client.on_publish = self.on_publish
        client.on_message = self.on_message

    # Called on paho's thread.

    def on_connect(self, _client, _data, flags, reason, _properties):
        with self.changed:
            self.answer, self.kept = reason, flags.session_present
            self.changed.notify()

    def on_disconnect(self, _client, _data, _flags, reason, _properties):
        with self.changed:
            self.lost = reason
            self.changed.notify()

    def on_subscribe(self, _client, _data, _mid, reasons, _properties):
        with self.changed:
            self.granted = [reason.value for reason in reasons]
            self.changed.notify()

    def on_publish(self, _client, _data, mid, reason, _properties):
        with self.changed:
            self.acknowledged[mid] = reason
            self.changed.notify()

    def on_message(self, _client, _data, message):
        receipt = json.loads(message.payload)
        with self.changed:
            self.heard.add((receipt["payload"], receipt["state"]))
            self.changed.notify()

    def until(self, what, done):
        """Waits for `done`; False when the connection was lost before."""
        with self.changed:
            if not self.changed.wait_for(lambda: done() or self.lost is not None, PATIENCE_S):
                sys.exit(f"{self.id}: {what}: not within {PATIENCE_S} s; heard {sorted(self.heard)}")
            return done()

    def must(self, what, done):
        if not self.until(what, done):
            sys.exit(f"{self.id}: {what}: the connection was lost before: {self.lost}")

    def connect(self):
        """CONNACK's reason."""
        options = {}
        if self.five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if self.keep else 0
            options = {"clean_start": not self.keep, "properties": properties}
        self.client.connect(self.url.hostname, self.url.port, **options)
        self.client.loop_start()
        self.must("CONNACK", lambda: self.answer is not None)
        return self.answer

    def publish(self, qos, topic, payload):
        """What came of it, in a line."""
        mid = self.client.publish(topic, payload, qos).mid
        if not self.until(f"acknowledgement of {payload}", lambda: mid in self.acknowledged):
            return f"closed: {self.lost}"
        reason = self.acknowledged[mid]
        return f"refused: {reason}" if reason.is_failure else "acknowledged"

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()


def offer(args):
    device = Device(args, keep=False)
    reason = device.connect()
    if reason.is_failure:
        print(f"refused: {reason}")
        return
    for one in args.rest:
        qos, topic, payload = one.split(":")
        outcome = device.publish(int(qos), topic, payload)
        print(outcome)
        if outcome.startswith("closed"):
            return
    device.disconnect()


def publish(args):
    device = Device(args, keep=True)
    reason = device.connect()
    if reason.is_failure:
        sys.exit(f"{args.id}: CONNACK: {reason}")
    device.client.subscribe(f"devices/{args.id}/receipts", 1)
    device.must("SUBACK", lambda: device.granted == [1])
    for qos, code in enumerate(args.rest):
        outcome = device.publish(qos, f"devices/{args.id}/readings", code)
        if outcome != "acknowledged":
            sys.exit(f"{args.id}: {code} with QoS {qos}: {outcome}")
    device.must("receipts", lambda: {(code, "accepted") for code in args.rest} <= device.heard)
    device.disconnect()


def listen(args):
    device = Device(args, keep=True)
    device.connect()
    device.must("a kept session", lambda: device.kept)
    wanted = {(code, state) for code in args.rest for state in ("mined", "final")}
    device.must("receipts", lambda: wanted <= device.heard)
    # No DISCONNECT: the broker sends the will.
    os._exit(0)


def main():
    acts = {"offer": offer, "publish": publish, "listen": listen}
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--protocol", required=True, type=int, choices=(4, 5))
    parser.add_argument("--id", required=True)
    for option in ("--secret", "--ca", "--cert", "--key"):
        parser.add_argument(option)
    parser.add_argument("act", choices=acts)
    parser.add_argument("rest", nargs="+")
    args = parser.parse_args()
    acts[args.act](args)


main()
