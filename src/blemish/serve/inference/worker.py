"""A process that inspects: it reads batches from stdin and answers on stdout, until stdin ends.

    {"batch": [{"id", "path", "name", "maps", "setup": {"config": tables, "calibration": path or null}}, …]}
    {"id", "record", "min_lead"} or {"id", "error", "kind"}, one an image in any order; then {"done": seconds}

One engine serves all vocabularies and thresholds: an inspector is made for each setup, on the engine of its model.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from blemish.config import Config, ModelConfig
from blemish.errors import BlemishError, ImageError, OutputError
from blemish.serve.inference.messages import read_message, write_message

__all__ = ["BatchWorker", "main"]

MOST_ENGINES = 2  # in memory; the one that was used longest ago goes
MOST_INSPECTORS = 16

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values that were used last, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is not there."""
        if key not in self._values:
            self._values[key] = make()
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


class BatchWorker:
    """Inspects batches with whatever setups their images ask for."""

    def __init__(self) -> None:
        self._engines: Recent[Any] = Recent(MOST_ENGINES)
        self._inspectors: Recent[Any] = Recent(MOST_INSPECTORS)

    def results(self, batch: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The answers to a batch, images of one setup together."""
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for item in batch:
            groups.setdefault(_key(item["setup"]), []).append(item)
        for key, items in groups.items():
            try:
                yield from self._group(key, items)
            except BlemishError as error:  # of the setup, not of one image
                for item in items:
                    yield {"id": item["id"], "error": str(error), "kind": "setup"}

    def warm_up(self, setup: Mapping[str, Any]) -> dict[str, Any]:
        """Loads the setup before its first image; what the service shows of it, or its error."""
        try:
            inspector = self._inspector(_key(setup), setup)
        except BlemishError as error:
            return {"error": str(error)}
        return {
            "model": inspector.model.to_dict(),
            "types": list(inspector.types),
            "thresholds": inspector.thresholds.to_dict(),
            "setup": inspector.setup.to_dict(),
        }

    def _group(self, key: str, items: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        inspector = self._inspector(key, items[0]["setup"])
        together, alone = _split(inspector, items)
        done: set[str] = set()
        try:
            for item, outcome in zip(together, inspector.stream([item["path"] for item in together]), strict=True):
                yield {**_answer(item, outcome), "setup": inspector.setup.to_dict()}
                done.add(item["id"])
        except BlemishError as error:  # as scores that are no numbers: which image it was shows when each is alone
            left = [item for item in together if item["id"] not in done]
            if len(together) == 1:
                yield {"id": left[0]["id"], "error": str(error), "kind": "model"}
            else:
                alone += left
        for item in alone:
            yield from self._group(key, [item])

    def _inspector(self, key: str, setup: Mapping[str, Any]) -> Any:
        from blemish.inspection.load import load

        def make() -> Any:
            config = Config.from_dict(setup["config"])
            if setup.get("calibration"):
                config = config.with_settings(calibration=setup["calibration"])
            return load(config, engines=self._engine)

        return self._inspectors.get(key, make)

    def _engine(self, model: ModelConfig, *, input_px: int | None = None, setup: Any = None) -> Any:
        from blemish.inspection.load import load_engine

        own = None if setup is None else setup.input_px
        key = _key({"model": Config(model=model).to_dict(), "input_px": input_px, "setup": own})
        return self._engines.get(key, lambda: load_engine(model, input_px=input_px, setup=setup))


def _split(inspector: Any, items: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """The images that can be inspected together, and those that cannot: strangers do not share a value range."""
    from blemish.images import ValueRanges, read_header

    if len(items) == 1 or ValueRanges(inspector.value_range).is_fixed:
        return list(items), []
    alone = [item for item in items if read_header(item["path"]).is_deep]
    return [item for item in items if item not in alone], alone


def _answer(item: Mapping[str, Any], outcome: Any) -> dict[str, Any]:
    from blemish.runs.maps import write_maps
    from blemish.runs.records import record_of

    if isinstance(outcome, ImageError):
        return {"id": item["id"], "error": outcome.reason, "kind": "image"}
    inspection = outcome.inspection
    record = {**record_of(inspection), "source": item["name"]}
    answer: dict[str, Any] = {"id": item["id"], "record": record, "min_lead": inspection.min_lead, "maps_bytes": None}
    if item.get("maps"):
        path = Path(item["maps"])
        with suppress(OutputError):  # a full disk costs the map, not the record
            write_maps(inspection, path)
            answer["maps_bytes"] = path.stat().st_size
    return answer


def _key(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True)


def serve_batches(worker: BatchWorker, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers requests until there are no more."""
    while (request := read_message(requests)) is not None:
        started = time.monotonic()
        results: Iterable[dict[str, Any]] = worker.results(request.get("batch", ()))
        if "warm_up" in request:
            results = [worker.warm_up(request["warm_up"])]
        for result in results:
            write_message(answers, result)
        write_message(answers, {"done": time.monotonic() - started})


def main() -> None:
    """The process. What libraries print goes to stderr: stdout carries the answers alone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    write_message(answers, {"ready": os.getpid()})
    with suppress(KeyboardInterrupt, BrokenPipeError):
        serve_batches(BatchWorker(), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
