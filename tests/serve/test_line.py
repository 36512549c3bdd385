"""line.toml: the tables of a configuration and the service's own; what is wrong with them is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blemish.errors import UsageError
from blemish.serve.line import LineConfig, is_loopback

WHOLE = """
[model]
backbone = "embedded"
[vocabulary]
defects = ["scratch", "hole"]
[serve]
port = 9000
data = "data"
shifts = ["06:00", "18:00"]
time_zone = "Europe/Berlin"
[retention]
ok_days = 7
[mqtt]
host = "broker"
password_file = "secret"
[[folders]]
name = "inbox"
path = "inbox"
[[sources]]
name = "line 1"
kind = "camera"
url = "rtsp://camera/1"
trigger = "mqtt"
profile = "strict"
[[webhooks]]
name = "mes"
url = "https://mes/results"
secret_file = "key"
[profiles.strict.thresholds]
threshold = 0.9
"""


def test_one_file_describes_all(tmp_path: Path) -> None:
    path = tmp_path / "line.toml"
    path.write_text(WHOLE)
    line = LineConfig.from_toml(path)
    assert line.inspect.vocabulary.defects == ("scratch", "hole")
    assert (line.serve.port, line.serve.data) == (9000, str(tmp_path / "data"))
    assert line.sources[0].profile == "strict"
    assert line.profiles["strict"].thresholds.threshold == 0.9
    assert line.mqtt is not None
    assert line.mqtt.password_file == str(tmp_path / "secret")
    assert line.folders[0].path == str(tmp_path / "inbox")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"serv": {}}, "unknown table 'serv'; did you mean 'serve'?"),
        ({"serve": {"prot": 1}}, r"unknown key of \[serve\] 'prot'; did you mean 'port'?"),
        ({"serve": {"port": "x"}}, r"\[serve\].port must be of type int"),
        ({"serve": {"time_zone": "Mars"}}, "no time zone"),
        ({"serve": {"shifts": ["25:00"]}}, "times such as 06:00"),
        ({"serve": {"shifts": ["6:00"]}}, "times such as 06:00"),
        ({"sources": [{"name": "a", "kind": "camra", "url": "x"}]}, "did you mean 'camera'?"),
        ({"sources": [{"name": "a", "kind": "folder"}]}, "needs its path"),
        ({"sources": [{"name": "a/b", "kind": "simulated"}]}, "a name has letters"),
        ({"sources": [{"name": "a", "kind": "simulated"}] * 2}, "have the name 'a'"),
        ({"sources": [{"name": "a", "kind": "simulated", "trigger": "mqtt"}]}, r"no table \[mqtt\]"),
        ({"sources": [{"name": "a", "kind": "simulated", "profile": "strict"}]}, "unknown profile"),
        ({"webhooks": [{"name": "a", "url": "ftp://x", "secret_file": "k"}]}, "begins with http"),
        ({"thresholds": {"treshold": 1}}, "did you mean 'threshold'?"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_nearest_name(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        LineConfig.from_dict(tables)


def test_only_this_machine_reaches_a_loopback_address() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "10.0.0.1")] == [
        *[True] * 4,
        *[False] * 2,
    ]
