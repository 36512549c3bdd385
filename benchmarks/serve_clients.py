"""Clients of a service that ask at a steady rate, whatever is answered; a process of its own, so that its work is told apart."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

MOST_AT_ONCE = 200  # requests of one client that wait for their answers
LIMIT_S = 120.0


@dataclass
class Answers:
    """What clients were answered."""

    codes: dict[int, int] = field(default_factory=dict)  # requests by status; 0 where the connection broke
    latencies_s: list[float] = field(default_factory=list)  # of status 200, as the client sees them
    refusals_s: list[float] = field(default_factory=list)  # of status 429
    records: dict[str, str] = field(default_factory=dict)  # name of the part by the id of its record
    wrong: list[str] = field(default_factory=list)  # ids of records that are not those of the bare loop
    without_retry_after: int = 0  # refusals that do not say when to come back


async def ask(
    address: str, parts: Path, expected: dict[str, Any], *, rate: float, clients: int, seconds: float
) -> Answers:
    """So many clients, each at its share of the rate (requests a second); the last answers are waited for."""
    answers, codes = Answers(), Counter[int]()
    images = {path.name: path.read_bytes() for path in sorted(parts.glob("*.png"))}
    names = sorted(images)

    async def request(http: httpx.AsyncClient, name: str) -> None:
        began = time.monotonic()
        try:
            answer = await http.post(
                "/v1/inspections", files={"images": (name, images[name])}, data={"timeout_s": "100"}
            )
        except httpx.TransportError:
            codes[0] += 1
            return
        took = time.monotonic() - began
        codes[answer.status_code] += 1
        if answer.status_code == 200:
            record = answer.json()["inspections"][0]
            answers.latencies_s.append(took)
            answers.records[record["id"]] = name
            if not agrees(record, expected[name]):
                answers.wrong.append(record["id"])
        elif answer.status_code == 429:
            answers.refusals_s.append(took)
            answers.without_retry_after += "retry-after" not in answer.headers

    async def client(number: int) -> None:
        limits = httpx.Limits(max_connections=MOST_AT_ONCE)
        pause_s, turn = clients / rate, number
        due = time.monotonic() + pause_s * number / clients
        async with (
            httpx.AsyncClient(base_url=address, timeout=LIMIT_S, limits=limits) as http,
            asyncio.TaskGroup() as group,
        ):
            until = time.monotonic() + seconds
            while due < until:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(request(http, names[turn % len(names)]))
                turn += 1
                due = max(due + pause_s, time.monotonic())  # a machine that falls behind is not asked for more at once

    await asyncio.gather(*(client(number) for number in range(clients)))
    answers.codes = dict(codes)
    return answers


def agrees(record: dict[str, Any], expected: Any, *, tolerance: float = 1e-3) -> bool:
    """Whether a record says what the bare loop said; the last digits of a score depend on what is computed together."""
    score, verdict = expected
    return abs(record["image_score"] - score) <= tolerance and record["verdict"] == verdict


def main() -> None:
    """Orders are read from stdin, an object a line: {"address", "parts", "expected", "rate", "clients", "seconds"}."""
    for line in sys.stdin:
        order = json.loads(line)
        address, parts, expected = order.pop("address"), Path(order.pop("parts")), order.pop("expected")
        print(json.dumps(asdict(asyncio.run(ask(address, parts, expected, **order)))), flush=True)


if __name__ == "__main__":
    main()
