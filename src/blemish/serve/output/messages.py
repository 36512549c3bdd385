"""The message of an inspection: versioned JSON in UTC, with the id that lets a reader drop doubles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blemish.serve.clock import iso, now_ms
from blemish.serve.history import Message
from blemish.serve.line import LineConfig

__all__ = ["MESSAGE_SCHEMA", "messages_of", "topic_name"]

MESSAGE_SCHEMA = "blemish.message/1"
MOST_REGIONS = 20


def messages_of(
    line: LineConfig, record: Mapping[str, Any], *, image_id: str, source: str, created_ms: int
) -> Sequence[Message]:
    """The messages of a finished inspection, one for each of those that want it."""
    payload = {
        "schema": MESSAGE_SCHEMA,
        "id": image_id,
        "source": source,
        "name": record["source"],
        "accepted": iso(created_ms),
        "finished": iso(now_ms()),
        "verdict": record["verdict"],
        "image_score": record["image_score"],
        "thresholds": record["thresholds"],
        "top_type": record["top_type"],
        "regions": [
            {name: region[name] for name in ("type", "box_px", "area_px", "peak_score")}
            for region in record["regions"][:MOST_REGIONS]
        ],
        "region_count": len(record["regions"]),
        "error": record["error"],
    }
    found = []
    if line.mqtt is not None:
        topic = f"{line.mqtt.prefix}/inspections/{topic_name(source)}"
        found.append(Message(target="mqtt", topic=topic, payload=payload))
    for hook in line.webhooks:
        if record["verdict"] in hook.verdicts:
            found.append(Message(target=f"webhook:{hook.name}", topic=hook.url, payload=payload))
    return found


def topic_name(source: str) -> str:
    """A source as one level of a topic.

    Example:
        >>> topic_name("line 3/left #2")
        'line 3_left _2'
    """
    return "".join("_" if letter in "/+#\0" else letter for letter in source)
