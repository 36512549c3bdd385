"""The newest result of each source for machines that ask for it: OPC UA variables and Modbus TCP registers.

docs/serve-line.md has the map of both. Neither protocol asks who reads here: they listen on this machine unless told otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from blemish.errors import MissingExtraError, UsageError
from blemish.serve.clock import now_ms
from blemish.serve.line import ModbusConfig, OpcUaConfig

__all__ = ["Fieldbus", "ModbusRegisters", "OpcUaVariables", "registers_of"]

logger = logging.getLogger(__name__)

START_S = 10.0
WATCHDOG_S = 1.0
VERDICTS = {None: 4, "ok": 1, "review": 2, "ng": 3}  # 0: nothing was inspected yet
MAP_VERSION = 1
BLOCK = 20  # registers of a source; the first block is the service's own
NAMESPACE = "urn:blemish:line"


class Fieldbus(ABC):
    """A server with a thread and an event loop of its own.

    Args:
        sources: those that have a place, in their order.
        is_ready: whether images can be inspected.

    Raises:
        UsageError: It cannot listen where it should.
    """

    def __init__(self, sources: Sequence[str], *, is_ready: Callable[[], bool]) -> None:
        self.sources = tuple(sources)
        self._is_ready = is_ready
        self._counted = 0
        self._counts = dict.fromkeys(self.sources, 0)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"blemish-{type(self).__name__}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._started.wait(START_S) or self._problem is not None:
            raise UsageError(f"{self.place}: cannot be listened on ({self._problem or 'it did not start'})")

    def update(self, image_id: str, source: str, record: Mapping[str, Any]) -> None:
        """Shows a result, where its source has a place."""
        if source in self._counts:
            self._counts[source] = (self._counts[source] + 1) % 2**16
            self._loop.call_soon_threadsafe(
                lambda: asyncio.ensure_future(self._show(image_id, source, record), loop=self._loop)
            )

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it listens."""

    @abstractmethod
    async def _listen(self) -> None: ...

    @abstractmethod
    async def _end(self) -> None: ...

    @abstractmethod
    async def _show(self, image_id: str, source: str, record: Mapping[str, Any]) -> None: ...

    @abstractmethod
    async def _count(self, ready: bool) -> None: ...

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._listen(), START_S))
        except Exception as error:  # whatever the library raises
            self._problem = error
        self._started.set()
        try:
            if self._problem is None:
                self._loop.create_task(self._watch())
                self._loop.run_forever()
            with suppress(Exception):
                self._loop.run_until_complete(asyncio.wait_for(self._end(), START_S))
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _watch(self) -> None:
        while True:
            ready = await asyncio.to_thread(self._is_ready)
            self._counted = (self._counted + ready) % 2**16
            await self._count(ready)
            await asyncio.sleep(WATCHDOG_S)


def registers_of(
    image_id: str, record: Mapping[str, Any], *, count: int, types: Sequence[str], when_s: int
) -> list[int]:
    """The registers of a source after a result.

    Example:
        >>> record = {"verdict": "ng", "image_score": 0.5, "thresholds": {"image": 0.4}, "regions": [1], "top_type": "hole"}
        >>> registers_of("00010002" + "0" * 24, record, count=7, types=("scratch", "hole"), when_s=65537)
        [7, 3, 5000, 4000, 1, 2, 1, 1, 1, 2]
    """
    top = record["top_type"]
    return [
        count,
        VERDICTS[record["verdict"]],
        round(10_000 * (record["image_score"] or 0)),
        round(10_000 * record["thresholds"]["image"]),
        min(len(record["regions"]), 2**16 - 1),
        types.index(top) + 1 if top in types else 0,
        when_s >> 16 & 0xFFFF,
        when_s & 0xFFFF,
        int(image_id[:4], 16),
        int(image_id[4:8], 16),
    ]


class ModbusRegisters(Fieldbus):
    """A Modbus TCP server with read-only input registers."""

    def __init__(
        self, config: ModbusConfig, *, types: Callable[[], Sequence[str]], is_ready: Callable[[], bool]
    ) -> None:
        super().__init__(config.sources, is_ready=is_ready)
        try:
            from pymodbus.simulator import DataType, SimData, SimDevice
        except ImportError as error:
            raise MissingExtraError("pymodbus", "modbus", "Modbus") from error
        self._config, self._types = config, types
        self._values = [MAP_VERSION, *[0] * (BLOCK * (len(self.sources) + 1) - 1)]
        held = SimData(0, values=list(self._values), datatype=DataType.REGISTERS, readonly=True)
        self._device = SimDevice(0, simdata=held, action=self._answer)
        self._server: Any = None

    @property
    def place(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    async def _answer(
        self, _function: int, start: int, _address: int, _count: int, registers: list[int], _values: Any, /
    ) -> None:
        """What pymodbus calls for each request: it answers with these registers."""
        registers[:] = self._values[start : start + len(registers)]

    def _write(self, address: int, values: Sequence[int]) -> None:
        self._values[address : address + len(values)] = values

    async def _listen(self) -> None:
        from pymodbus.server import ModbusTcpServer

        self._server = ModbusTcpServer(self._device, address=(self._config.host, self._config.port))
        await self._server.serve_forever(background=True)

    async def _end(self) -> None:
        await self._server.shutdown()

    async def _show(self, image_id: str, source: str, record: Mapping[str, Any]) -> None:
        values = registers_of(
            image_id, record, count=self._counts[source], types=list(self._types()), when_s=now_ms() // 1000
        )
        self._write(BLOCK * (self.sources.index(source) + 1), values)

    async def _count(self, ready: bool) -> None:
        self._write(1, [int(ready), self._counted])


class OpcUaVariables(Fieldbus):
    """An OPC UA server with read-only variables below Objects/Blemish."""

    def __init__(self, config: OpcUaConfig, *, is_ready: Callable[[], bool]) -> None:
        super().__init__(config.sources, is_ready=is_ready)
        try:
            import asyncua  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("asyncua", "opcua", "OPC UA") from error
        self._config = config
        self._server: Any = None
        self._nodes: dict[str, Any] = {}

    @property
    def place(self) -> str:
        return f"opc.tcp://{self._config.host}:{self._config.port}/blemish/"

    async def _listen(self) -> None:
        from asyncua.server.server import Server

        self._server = Server()
        await self._server.init()
        self._server.set_endpoint(self.place)
        self._server.set_server_name("Blemish")
        index = await self._server.register_namespace(NAMESPACE)
        root = await self._server.nodes.objects.add_object(index, "Blemish")
        for name, first in {"Ready": False, "Watchdog": 0}.items():
            self._nodes[name] = await root.add_variable(index, name, first)
        empty: dict[str, Any] = {
            "Count": 0,
            "Verdict": "",
            "ImageScore": 0.0,
            "Threshold": 0.0,
            "TopType": "",
            "Regions": 0,
            "Id": "",
            "Finished": 0,
        }
        for source in self.sources:
            place = await root.add_object(index, source)
            for name, value in empty.items():
                self._nodes[f"{source}/{name}"] = await place.add_variable(index, name, value)
        await self._server.start()

    async def _end(self) -> None:
        await self._server.stop()

    async def _show(self, image_id: str, source: str, record: Mapping[str, Any]) -> None:
        values = {
            "Verdict": record["verdict"] or "failed",
            "ImageScore": float(record["image_score"] or 0.0),
            "Threshold": float(record["thresholds"]["image"]),
            "TopType": record["top_type"] or "",
            "Regions": len(record["regions"]),
            "Id": image_id,
            "Finished": now_ms(),
            "Count": self._counts[source],  # last: who waits for it finds the others changed
        }
        for name, value in values.items():
            await self._nodes[f"{source}/{name}"].write_value(value)

    async def _count(self, ready: bool) -> None:
        await self._nodes["Ready"].write_value(ready)
        await self._nodes["Watchdog"].write_value(self._counted)
