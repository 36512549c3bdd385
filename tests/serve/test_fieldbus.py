"""The newest result for machines that ask: Modbus TCP and OPC UA, read by the libraries' own clients."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import UsageError
from serve.conftest import picture, post, running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_registers_hold_the_newest_result_of_each_source(tmp_path: Path) -> None:
    from pymodbus.client import ModbusTcpClient

    port = free_port()
    with running(tmp_path, modbus={"sources": ["line 1", "line 2"], "port": port}) as (_, client):
        record = post(client, ("a.png", picture(dark=True)), source="line 2").json()["inspections"][0]
        post(client, ("b.png", picture()), source="line 3")
        with ModbusTcpClient("127.0.0.1", port=port) as machine:

            def registers(address: int, count: int) -> Any:
                return machine.read_input_registers(address, count=count).registers

            wait_for(lambda: registers(40, 1) == [1])
            assert registers(40, 6) == [1, 3, round(10_000 * record["image_score"]), 6000, 1, 1]
            assert f"{registers(48, 1)[0]:04x}{registers(49, 1)[0]:04x}" == record["id"][:8]
            assert registers(20, 10) == [0] * 10
            wait_for(lambda: registers(0, 2) == [1, 1])
            wait_for(lambda: registers(2, 1)[0] >= 2)


def test_variables_hold_the_newest_result_of_each_source(tmp_path: Path) -> None:
    from asyncua import Client

    port = free_port()

    async def read(*names: str) -> list[Any]:
        async with Client(f"opc.tcp://127.0.0.1:{port}/blemish/") as machine:
            index = await machine.get_namespace_index("urn:blemish:line")
            root = await machine.nodes.objects.get_child(f"{index}:Blemish")
            found = []
            for name in names:
                node = await root.get_child([f"{index}:{part}" for part in name.split("/")])
                found.append(await node.read_value())
            return found

    with running(tmp_path, opcua={"sources": ["line 1"], "port": port}) as (_, client):
        record = post(client, ("a.png", picture(dark=True)), source="line 1").json()["inspections"][0]
        wait_for(lambda: asyncio.run(read("line 1/Count")) == [1])
        names = ("line 1/Verdict", "line 1/TopType", "line 1/Regions", "line 1/Id")
        assert asyncio.run(read(*names)) == ["ng", "scratch", 1, record["id"]]
        wait_for(lambda: asyncio.run(read("Ready")) == [True])


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match="cannot be listened on"),
            running(tmp_path, opcua={"sources": ["line 1"], "port": port}),
        ):
            pass
