"""Results by MQTT 3.1.1, QoS 1 (docs/serve-line.md has all topics).

PREFIX/availability           online or offline, retained; offline also where the service falls (last will)
PREFIX/inspections/SOURCE     each inspection, in order, at least once
PREFIX/state/SOURCE           the newest of them, retained
PREFIX/watchdog               counts on while the service can inspect
PREFIX/trigger/SOURCE         takes an image from a camera that is triggered by MQTT
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy.engine import Engine

from blemish.errors import BlemishError
from blemish.serve.clock import iso, now_ms
from blemish.serve.line import MqttConfig
from blemish.serve.output.messages import MESSAGE_SCHEMA
from blemish.serve.output.senders import OutboxSender, read_secret

__all__ = ["MqttSender"]

logger = logging.getLogger(__name__)

ACKNOWLEDGED_S = 10.0  # how long a message may take before it is sent again
RECONNECT_S = (1, 30)
INSPECTIONS, STATE = "/inspections/", "/state/"


class MqttSender(OutboxSender):
    """Publishes the outbox to a broker, and says that the service is there."""

    def __init__(self, db: Engine, config: MqttConfig, *, is_ready: Callable[[], bool]) -> None:
        super().__init__(db, "mqtt")
        self._config = config
        self._is_ready = is_ready
        self.triggers: dict[str, Callable[[], Any]] = {}  # topic -> what a message on it does
        self._counted = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=config.client_id or "")
        if config.username is not None:
            file = config.password_file
            self._client.username_pw_set(config.username, None if file is None else read_secret(file, "the password"))
        if config.tls:
            self._client.tls_set(ca_certs=config.tls_ca)
        self._client.will_set(self._availability, "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._watchdog = threading.Thread(target=self._watch, name="blemish-watchdog", daemon=True)

    @property
    def may_send(self) -> bool:
        return bool(self._client.is_connected())

    @property
    def _availability(self) -> str:
        return f"{self._config.prefix}/availability"

    def start(self) -> None:
        self._client.connect_async(self._config.host, self._config.port)
        self._client.loop_start()
        super().start()
        self._watchdog.start()

    def close(self) -> None:
        super().close()
        self._watchdog.join(5)
        if self.may_send:
            self._client.publish(self._availability, "offline", qos=1, retain=True).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, rows: Sequence[Any]) -> list[int]:
        newest = {row.topic: row for row in rows}
        under_way = [(row.number, self._client.publish(row.topic, row.payload, qos=1)) for row in rows]
        for topic, row in newest.items():
            place = topic.replace(INSPECTIONS, STATE, 1)
            under_way.append((row.number, self._client.publish(place, row.payload, qos=1, retain=True)))
        acknowledged: dict[int, bool] = {}
        for number, info in under_way:
            try:
                info.wait_for_publish(ACKNOWLEDGED_S if self.may_send else 0)
                arrived = info.is_published()
            except (ValueError, RuntimeError):  # the connection is gone
                arrived = False
            acknowledged[number] = acknowledged.get(number, True) and arrived
        return [number for number, arrived in acknowledged.items() if arrived]

    def _connected(self, client: Any, _userdata: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            logger.error("the MQTT broker refuses (%s)", code)
            return
        client.publish(self._availability, "online", qos=1, retain=True)
        for topic in self.triggers:
            client.subscribe(topic, qos=1)
        self.wake()

    def _message(self, _client: Any, _userdata: Any, message: Any) -> None:
        trigger = self.triggers.get(message.topic)
        if trigger is not None and not message.retain:  # a trigger that the broker kept is an old one
            threading.Thread(target=self._fire, args=(message.topic, trigger), daemon=True).start()

    def _fire(self, topic: str, trigger: Callable[[], Any]) -> None:
        try:
            trigger()
        except BlemishError as error:
            logger.warning("the trigger on %s: %s", topic, error)

    def _watch(self) -> None:
        while not self._closing.wait(self._config.watchdog_s):
            if self.may_send and self._is_ready():
                self._counted += 1
                message = {"schema": MESSAGE_SCHEMA, "count": self._counted, "time": iso(now_ms())}
                self._client.publish(f"{self._config.prefix}/watchdog", json.dumps(message), qos=0)
