"""PostgreSQL and Mosquitto from their Debian packages, started, killed and started again by tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from serve.conftest import wait_for


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own at this place; skips the test where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("no file system can be mounted here (it takes root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Postgres:
    """A database server in a folder and on a socket of its own; skips the test where the package is missing."""

    def __init__(self) -> None:
        homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not homes:
            pytest.skip("no PostgreSQL here (on Debian: apt-get install postgresql)")
        self._home = homes[-1]
        self.folder = Path(
            tempfile.mkdtemp(prefix="blemish-postgres-")
        )  # pytest's own folders are closed to other users
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as_user:
            shutil.chown(self.folder, "postgres")
        self._call("initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", "postgres", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder}"
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/log", "-w", "start")

    def kill(self) -> None:
        """Ends all of its processes at once, as a power cut would."""
        main = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for process in (main, *map(int, children)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not any(Path(f"/proc/{process}/stat").exists() for process in children))

    def remove(self) -> None:
        self._call("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._home / program), *arguments]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Broker:
    """Mosquitto on a port of its own; skips the test where the package is missing."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("no mosquitto here (on Debian: apt-get install mosquitto)")
        self._program = program
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        kept = folder / "mosquitto"  # what it has acknowledged survives its fall
        kept.mkdir()
        lines = [
            f"listener {self.port} 127.0.0.1\nallow_anonymous true",
            *(["user root"] if os.getuid() == 0 else []),
            f"persistence true\npersistence_location {kept}/\nautosave_on_changes true\nautosave_interval 1",
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._listens)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Reader:
    """Keeps what a broker tells it."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, str, bool]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("blemish/#", qos=1)
        self._client.on_message = lambda _client, _data, message: self.got.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def of(self, topic: str) -> list[str]:
        return [payload for name, payload, _ in self.got if name == topic]

    def publish(self, topic: str) -> None:
        self._client.publish(topic, "", qos=1).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
