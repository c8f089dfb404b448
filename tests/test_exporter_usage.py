"""`genai-meter usage`: what a person and a program read from the ledger, also while it is being written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from exporter_kit import NOW, Served, usage_event
from genai_meter_exporter.cli import main
from genai_meter_exporter.store import Query, open_readonly

HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An exporter that has some calls and keeps running."""
    with Served(tmp_path_factory.mktemp("data")) as running:
        running.send(
            usage_event(tenant="acme", user="u1", cache_read=500),
            usage_event(tenant="acme", user="u2", start_ns=NOW + HOUR),
            usage_event(tenant="acme", model="mystery-1"),
            usage_event(tenant="zeta", model="mystery-1", start_ns=NOW + 300 * 10**9),
            usage_event(
                tenant="zeta",
                status="closed_early",
                http_status=200,
                input_tokens=0,
                output_tokens=0,
                usage_source="unknown",
            ),
            usage_event(
                tenant="refused",
                status="error",
                http_status=400,
                input_tokens=0,
                output_tokens=0,
                usage_source="unknown",
                start_ns=NOW + 2 * HOUR,
            ),
            usage_event(input_tokens=10**9, output_tokens=0, start_ns=NOW - 20 * 24 * HOUR),
        )
        yield running


def report(served: Served, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a report prints."""
    assert main(["usage", "--data-dir", str(served.data), *arguments]) == 0
    return capsys.readouterr().out


def as_json(served: Served, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """A report for programs."""
    return json.loads(report(served, capsys, "--format", "json", *arguments))


SPAN = ("--since", "2026-11-22T09:00", "--until", "2026-11-22T11:00")


def test_the_table(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    printed = report(served, capsys, "--by", "tenant,model", *SPAN)
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if line.strip()]
    assert rows[0] == ["tenant", "model", "calls", "input", "cache read", "output", "unpriced", "no usage", "cost USD"]
    assert rows[2:7] == [
        ["acme", "gpt-4o-2024-08-06", "2", "2,500", "500", "200", "0.007625"],
        ["acme", "mystery-1", "1", "1,000", "0", "100", "1", "unpriced"],
        ["zeta", "gpt-4o-2024-08-06", "1", "0", "0", "0", "1", "unknown"],
        ["zeta", "mystery-1", "1", "1,000", "0", "100", "1", "unpriced"],
        ["total", "5", "4,500", "500", "400", "2", "1", "0.007625+?"],
    ]
    assert "$0" not in printed
    assert "2026-11-22 09:00 UTC to 2026-11-22 11:00 UTC" in printed


def test_names_are_no_markup_and_a_tiny_cost_is_not_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Served(tmp_path) as running:
        running.send(
            usage_event(tenant="[/b] inc", model="gpt-4o-mini", input_tokens=1, output_tokens=0),
            usage_event(tenant="none", model="gpt-4o-mini", status="error", http_status=400, output_tokens=0, input=0),
        )
        printed = report(running, capsys, "--by", "tenant", *SPAN)
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if line.strip()]
    assert [(row[0], row[-1]) for row in rows[2:4]] == [("[/b] inc", "<0.000001"), ("none", "0.000000")]


def test_names_command_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["\x1b[2Jcleared", "two\nlines", "\u202eright to left", ":bomb:", "株式会社"]
    with Served(tmp_path) as running:
        running.send(*(usage_event(tenant=name) for name in names))
        printed = report(running, capsys, "--by", "tenant", *SPAN)
        found = as_json(running, capsys, "--by", "tenant", *SPAN)
    rows = [re.split(r"\s{2,}", line.strip())[0] for line in printed.splitlines() if line.strip()]
    assert sorted(rows[2:7]) == sorted(
        [r"\x1b[2Jcleared", r"two\nlines", r"\u202eright to left", ":bomb:", "株式会社"],
    )
    assert {row["tenant"] for row in found["rows"]} == set(names)


@pytest.mark.parametrize(
    ("environment", "code", "expected"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, "株式会社,1,"),
        ({"PYTHONIOENCODING": "latin-1"}, 1, "genai-meter usage: 'latin-1' codec can't encode"),
    ],
)
def test_names_of_any_script_in_any_locale(
    tmp_path: Path, environment: dict[str, str], code: int, expected: str
) -> None:
    with Served(tmp_path) as running:
        running.send(usage_event(tenant="株式会社"))
    command = "from genai_meter_exporter.cli import main; raise SystemExit(main())"
    arguments = ["usage", "--data-dir", str(tmp_path), "--by", "tenant", "--format", "csv", *SPAN]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == code
    assert expected in (done.stdout + done.stderr).decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("usage --by user --since all", 2),
        ("store check", 2),
        ("reprice --since all", 2),
        ("prices explain 00", 2),
    ],
)
def test_a_damaged_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    with Served(tmp_path) as running:
        running.send(usage_event())
    with closing(sqlite3.connect(running.ledger)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'call'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with running.ledger.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    assert main([*command.split(), "--data-dir", str(tmp_path)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"genai-meter {command.split()[0]}")
    assert "malformed" in line


def test_json_has_exact_money_and_null_for_what_has_no_price(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(served, capsys, "--by", "tenant", *SPAN)
    assert [(row["tenant"], row["calls"], row["cost_usd"]) for row in found["rows"]] == [
        ("acme", 3, "0.007625000000"),
        ("zeta", 2, None),
    ]
    assert found["total"] == {
        "calls": 5,
        "retries": 0,
        "input_tokens": 4500,
        "output_tokens": 400,
        "cache_read_tokens": 500,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "unpriced_calls": 2,
        "unknown_usage_calls": 1,
        "list_cost_usd": "0.007625000000",
        "cost_usd": "0.007625000000",
    }
    assert (found["since"], found["until"]) == ("2026-11-22 09:00 UTC", "2026-11-22 11:00 UTC")


def test_a_refused_call_is_known_to_cost_nothing(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(served, capsys, "--by", "tenant", "--where", "tenant=refused", "--since", "all")
    assert [(row["calls"], row["unpriced_calls"], row["unknown_usage_calls"]) for row in found["rows"]] == [(1, 0, 0)]
    assert found["total"]["cost_usd"] == "0.000000000000"


def test_csv(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(report(served, capsys, "--by", "tenant", "--format", "csv", *SPAN))))
    assert [(row["tenant"], row["cost_usd"], row["unpriced_calls"]) for row in rows] == [
        ("acme", "0.007625000000", "1"),
        ("zeta", "", "1"),
    ]


def test_a_column_that_is_in_no_rollup(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(served, capsys, "--by", "user", "--where", "tenant=acme", *SPAN)
    assert {row["user"]: row["cost_usd"] for row in found["rows"]} == {
        "u1": "0.004125000000",
        "u2": "0.003500000000",
        "": None,
    }


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("hour", {"2026-11-22T09:00Z": 4, "2026-11-22T10:00Z": 1}),
        ("day", {"2026-11-22": 5}),
        ("month", {"2026-11": 5}),
        ("hour,user", None),
    ],
)
def test_time_is_a_dimension(
    served: Served, capsys: pytest.CaptureFixture[str], by: str, expected: dict[str, int] | None
) -> None:
    rows = as_json(served, capsys, "--by", by, *SPAN)["rows"]
    if expected is None:
        assert sum(row["calls"] for row in rows) == 5
        assert {row["hour"] for row in rows} == {"2026-11-22T09:00Z", "2026-11-22T10:00Z"}
    else:
        assert {row[by]: row["calls"] for row in rows} == expected


def test_an_odd_bound_is_exact(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(
        served, capsys, "--by", "tenant", "--since", "2026-11-22T09:04:59", "--until", "2026-11-22T09:05:01"
    )
    assert [(row["tenant"], row["calls"]) for row in found["rows"]] == [("zeta", 1)]


def test_all_of_time(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(served, capsys, "--by", "service", "--since", "all")
    assert [(row["service"], row["calls"], row["cost_usd"]) for row in found["rows"]] == [
        ("shop", 7, "2500.007625000000")
    ]
    assert found["since"] is None


def test_a_where_for_what_is_not_known(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(served, capsys, "--by", "model", "--where", "tenant=", "--since", "all")["total"]["calls"] == 1
    assert as_json(served, capsys, "--where", "http_status=404", *SPAN)["rows"] == []


def test_nothing_to_show(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(served, capsys, "--since", "2020-01-01", "--until", "2020-02-01").startswith("No calls.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "colour"), "the ledger has no column 'colour': it has account, agent, api_key, "),
        (("--by", "tennant"), "the ledger has no column 'tennant': is 'tenant' meant?"),
        (("--by", ""), "--by needs one or more different dimensions"),
        (("--where", "tenant"), "--where tenant: write it as column=value"),
        (("--by", "tenant,cache_read_tokens"), "--by cache_read_tokens: this is a measure, not a dimension"),
        (("--by", "model) FROM usage; --"), "the ledger has no column 'model) FROM usage; --'"),
        (("--where", "1=1 OR tenant=acme"), "the ledger has no column '1'"),
        (("--since", "yesterday"), "'yesterday' is no time"),
        (("--since", "99999999999w"), "'99999999999w' is before 1970 or after 2262-04-11"),
        (("--since", "0001-01-01T00:01"), "'0001-01-01T00:01' is before 1970 or after 2262-04-11"),
        (("--until", "9999-12-31"), "'9999-12-31' is before 1970 or after 2262-04-11"),
        (("--data-dir", "/nowhere"), "there is no store at /nowhere/ledger.db: start `genai-meter serve`"),
    ],
)
def test_mistakes(served: Served, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert main(["usage", "--data-dir", str(served.data), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_rows_agree_with_the_rollups_for_every_dimension(served: Served) -> None:
    reader = open_readonly(served.ledger)
    for by in ("tenant", "model", "status", "service", "operation", "day"):
        assert reader.report(Query((by,))) == reader.report(Query((by,), since_ns=1))
    reader.close()


def test_a_file_that_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.db").write_bytes(b"nothing of the kind" * 100)
    assert main(["usage", "--data-dir", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
