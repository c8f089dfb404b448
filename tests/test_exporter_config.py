"""The exporter's configuration: every key works and is documented, every mistake is named with its line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from genai_meter_exporter import config
from genai_meter_exporter.cli import main
from genai_meter_exporter.config import Config, ConfigError, load
from prices_kit import ACME

DOCS = Path(__file__).resolve().parent.parent / "docs" / "exporter.md"


def written(tmp_path: Path, text: str) -> Path:
    """A configuration file."""
    file = tmp_path / "genai-meter.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_is_the_default(tmp_path: Path) -> None:
    assert load(None) == load(written(tmp_path, "")) == load(written(tmp_path, "# empty\n")) == Config()
    listen = Config().listen
    assert (listen.host, listen.grpc_port, listen.http_port, listen.metrics_port) == ("127.0.0.1", 4327, 4328, 4329)
    assert Config().store.synchronous == "FULL"


def test_a_file_is_read(tmp_path: Path) -> None:
    text = (
        "store: {synchronous: NORMAL, busy_seconds: 1}\nlabels:\n  limits: {tenant: 5}\nprices: {overlay: ours.json}\n"
    )
    file = written(tmp_path, text)
    found = load(file)
    assert (found.store.synchronous, found.store.busy_seconds, found.labels.limits) == ("NORMAL", 1.0, {"tenant": 5})
    assert config.overlay(found, file) == tmp_path / "ours.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "listen:\n  host: 127.0.0.1\n  port: 4317\n",
            "line 3: listen.port is unknown; remove it or use one of: host, grpc_port, http_port, metrics_port",
        ),
        ("listn: {}\n", "line 1: listn is unknown; remove it or use one of: listen, store, linking, labels, metrics"),
        (
            "store:\n  path: x.db\n  synchronous: OFF\n",
            "line 3: store.synchronous: Input should be 'FULL' or 'NORMAL'; got False",
        ),
        ("limits:\n\n  body_bytes: -1\n", "line 3: limits.body_bytes: Input should be greater than 0; got -1"),
        ("limits: {body_bytes: '16'}\n", "line 1: limits.body_bytes: Input should be a valid integer; got '16'"),
        ("listen: {http_port: 70000}\n", "line 1: listen.http_port: Input should be less than or equal to 65535"),
        (
            "limits: {inflated_bytes: 300000000}\n",
            "line 1: limits: Value error, queue_bytes (268435456) is less than inflated_bytes (300000000)",
        ),
        ("labels:\n  limits:\n    tenant: many\n", "line 3: labels.limits.tenant: Input should be a valid integer"),
        ("store: 3\n", "line 1: store: must be keys and values; got 3"),
        ("listen: {}\nstore:\n  # path: a\n", "line 2: store: nothing is set; leave it out"),
        ("- a\n", "line 1: the file: must be keys and values"),
        ("store:\n  path: a\n bad\n", "line 3: no YAML: "),
        ("store: {}\nlisten: {}\nstore: {}\n", "line 3: store is there twice; keep one of them"),
        (
            "budgets:\n  entries:\n    - {name: a, amount: {usd: 1}}\n    - {name: b, name: c, amount: {usd: 1}}\n",
            "line 4: name is there twice; keep one of them",
        ),
        ("listen: &a\n  host: *a\n", "line 2: listen.host: Input should be a valid string"),
        ("a: &a {b: *a}\n", "line 1: a is unknown"),
        ("store: {}\nlisten:\n  host: 2026-13-45\n", "line 3: month must be in 1..12: put it into quotes"),
        ("listen: " + "[" * 5000, "brackets within brackets, too deep to be read"),
        ("linking:\n  window_seconds: .inf\n", "line 2: linking.window_seconds: Input should be a finite number"),
        ("labels:\n  limits:\n    tennant: 5\n", "line 2: labels.limits: Value error, tennant is no field"),
        ("labels: {series_limits: {cost: 5}}\n", "line 1: labels.series_limits: Value error, cost is no field"),
        (
            "budgets: {entries: [{name: a, amount: {usd: true}}]}\n",
            "budgets.entries.0.amount.usd: Input should be text",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "store: {url: 'postgres:/meter:s3cret@host/db'}\n",
        "digest: {entries: [{name: a, every: day, url: 'hooks.example.com/s3cret'}]}\n",
        "digest:\n  entries:\n" + "    - {name: a, every: day, url: 'https://h/s3cret'}\n" * 2,
    ],
)
def test_a_mistake_does_not_tell_secrets(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("page", sorted(DOCS.parent.glob("*.md")), ids=lambda page: page.stem)
def test_configurations_in_the_docs_are_right(tmp_path: Path, page: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        if block.partition(":")[0] in Config.model_fields:
            load(written(tmp_path, block))


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "listen: {host: 1}\nstore: {path: 2}\n"))
    assert [line.partition(", ")[2].partition(":")[0] for line in str(caught.value).splitlines()] == [
        "line 1",
        "line 2",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nothing.yaml")


def test_serve_ends_with_the_mistake(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from genai_meter_exporter.cli import main; raise SystemExit(main())", "serve"]
    for text, expected in (
        ("sotre: {}\n", "line 1: sotre is unknown"),
        ("prices: {overlay: nothing.json}\n", "nothing.json cannot be used"),
        # Documentation's own network (RFC 5737): no machine has it.
        ("listen: {host: 192.0.2.1}\n", "192.0.2.1:4328 (listen.http_port): Cannot assign requested address; take"),
    ):
        done = subprocess.run(
            [*command, "--config", str(written(tmp_path, text)), "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", f"--http-port={port}"])
    assert ended.value.code == 2
    assert f"argument --http-port: '{port}' is no port from 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [("rules", "--output"), ("dashboards", "--output"), ("prices", "compile", "overlay.yaml", "--output")],
)
def test_a_place_that_cannot_be_written_is_one_line(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overlay.yaml").write_text(ACME, encoding="utf-8")
    assert main([*command, "overlay.yaml/nowhere"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"genai-meter {command[0]}: [Errno")
    assert "overlay.yaml" in line


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert config.data_directory(None) == tmp_path / "genai-meter"
    assert config.data_directory("here") == Path("here")
    assert config.store_path(Config(), "here") == Path("here/ledger.db")


def test_every_key_is_documented_and_the_table_is_in_the_docs() -> None:
    table = config.reference()
    sections: list[Any] = [field.annotation for field in Config.model_fields.values()]
    assert table.count("\n") == 2 + sum(len(section.model_fields) for section in sections)
    assert "| None |" not in table
    assert table in DOCS.read_text(encoding="utf-8"), "run `python -m genai_meter_exporter.config` and paste its table"
