"""The command with wrong input: which option, file or name is meant, and what to do; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from exporter_kit import Served, logs, usage_event
from genai_meter.pricing.book import SHIPPED, read_book
from genai_meter_exporter.cli import main
from genai_meter_exporter.prices import compiler

COMMAND = [sys.executable, "-c", "from genai_meter_exporter.cli import main; raise SystemExit(main())"]
HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a ledger, with calls of three days, that no exporter has open; a configuration beside it."""
    place = tmp_path_factory.mktemp("ledger")
    now = time.time_ns()
    with Served(place) as served:
        served.send(*(usage_event(start_ns=now - hours * HOUR, tenant=f"t{hours}") for hours in range(72)))
        bad = [usage_event(output_tokens=-5), usage_event(attempt_count=-1)]
        assert served.post("logs", logs(bad).SerializeToString()).status == 200
    digest = {"name": "weekly", "url": "http://127.0.0.1:9/hook", "every": "week"}
    budget = {"name": "all", "scope": {"tenant": ["t1"]}, "amount": {"usd": 1}, "period": "rolling 24h"}
    config: dict[str, Any] = {"digest": {"entries": [digest]}, "budgets": {"entries": [budget]}}
    (place / "digest.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return place


def told(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code, and what went to standard error."""
    try:
        code = main(shlex.split(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else -1
    return code, capsys.readouterr().err


REPORTS = ("usage", "caches", "outcomes", "estimates")
LATE = "'9999-12-31' is before 1970 or after 2262-04-11"
EARLY = "'1969-12-31' is before 1970 or after 2262-04-11"


@pytest.mark.parametrize("command", [*REPORTS, "reprice"])
@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("--since 9999-12-31", f"--since: {LATE}: write all for everything"),
        ("--since 1969-12-31", f"--since: {EARLY}: write all for everything"),
        ("--since all --until 9999-12-31", f"--until: {LATE}: write all for everything"),
        ("--since all --until 2262-04-12", "--until: '2262-04-12' is before 1970 or after 2262-04-11"),
        ("--since 999999999w", "--since: '999999999w' is before 1970 or after 2262-04-11"),
        ("--since 1d --until 21.11.2026", "--until: '21.11.2026' is no time: write 7d, 12h, 30m, 2w, an ISO time"),
        ("--since 2026-11-22 --until 2026-11-21", "--since 2026-11-22 is not before --until 2026-11-21"),
        ("--since 1d --until 1d", "--since 1d is not before --until 1d"),
    ],
)
def test_a_time_that_cannot_be_names_its_option(
    ledger: Path, command: str, times: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = told(f"{command} {times} --data-dir {ledger}", capsys)
    assert code == 2
    assert error.startswith(f"genai-meter {command}: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("store export --to {tmp} --until 9999-12-31", f"argument --until: {LATE}"),
        ("store export --to {tmp} --until 1969-12-31", f"argument --until: {EARLY}"),
        ("store export --to {tmp} --until tomorrow", "argument --until: 'tomorrow' is no day: write 2026-11-21"),
        ("quarantine --before 9999-12-31", f"genai-meter quarantine: --before: {LATE}"),
        ("quarantine purge --yes --before 1969-12-31", f"genai-meter quarantine: --before: {EARLY}"),
        ("digest weekly monthly --config {ledger}/digest.yaml", "digest.yaml has no monthly: only weekly"),
        ("digest --config {ledger}/config.yaml", "config.yaml has no digests: none (docs/budgets.md)"),
    ],
)
def test_mistakes_at_a_ledger(
    ledger: Path, tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = told(arguments.format(tmp=tmp_path, ledger=ledger) + f" --data-dir {ledger}", capsys)
    assert (code, message in error) == (2, True), error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("prices show gpt-4o --at 9999-12-31", f"argument --at: {LATE}"),
        ("prices show gpt-4o --at 1969-12-31", f"argument --at: {EARLY}"),
        ("prices show gpt-4o --at noon", "argument --at: 'noon' is no time: write 2026-11-21 or 2026-11-21T09:30:00Z"),
        ("prices update --data-date noon", "argument --data-date: 'noon' is no day: write 2026-11-21"),
        ("prices update --data-date 9999-12-31", f"argument --data-date: {LATE}"),
    ],
)
def test_mistakes_about_prices(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = told(arguments, capsys)
    assert (code, message in error) == (2, True), error


WITH_A_STORE = (
    *(f"{command} --since all" for command in (*REPORTS, "reprice")),
    "store check",
    "store migrate",
    "store migrate --dry-run",
    "store export --to {tmp}/days",
    "quarantine",
    "quarantine show",
    "quarantine retry",
    "quarantine purge --yes",
    "budgets --config {ledger}/digest.yaml",
    "digest --config {ledger}/digest.yaml",
)


@pytest.mark.parametrize("arguments", WITH_A_STORE)
def test_a_store_that_there_is_not(
    ledger: Path, tmp_path: Path, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = told(arguments.format(tmp=tmp_path, ledger=ledger) + f" --data-dir {tmp_path}", capsys)
    missing = f"there is no store at {tmp_path}/ledger.db: start `genai-meter serve`, or name another with --data-dir\n"
    assert (code, error) == (2, f"genai-meter {arguments.split()[0]}: {missing}")


@pytest.mark.parametrize("arguments", WITH_A_STORE)
def test_a_file_that_is_no_store_is_named(
    ledger: Path, tmp_path: Path, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.db").write_bytes(os.urandom(20_000))
    code, error = told(arguments.format(tmp=tmp_path, ledger=ledger) + f" --data-dir {tmp_path}", capsys)
    assert (code, f"{tmp_path}/ledger.db" in error, "file is not a database" in error) == (2, True, True), error
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".db"] == ["ledger.db"]


@pytest.mark.parametrize("arguments", ["quarantine", "quarantine retry", "usage"])
def test_an_empty_file_is_no_store(tmp_path: Path, arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.db").touch()
    code, error = told(f"{arguments} --data-dir {tmp_path}", capsys)
    assert (code, f"{tmp_path}/ledger.db is no genai-meter store" in error) == (2, True), error


def test_a_reason_chooses_among_what_is_in_quarantine(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(arguments: str) -> str:
        assert main(["quarantine", *shlex.split(arguments), "--data-dir", str(ledger)]) == 0
        return capsys.readouterr().out

    reason = "genai_meter.usage.output is negative"
    assert [row["reason"] for row in json.loads(said("list --format json --reason negative"))].count(reason) == 1
    shown = [json.loads(line) for line in said("show --reason 'output is negative'").splitlines()]
    assert [record["reason"] for record in shown] == [reason]
    assert said("purge --reason 'output is negative'") == "1 records would go; say --yes to throw them away\n"
    assert said("purge --reason 'no such reason' --yes") == "0 records are gone\n"


def test_calls_priced_by_another_book(ledger: Path, tmp_path: Path) -> None:
    content = compiler.document(gzip.decompress(SHIPPED.read_bytes()))
    content["rates"] = [dict.fromkeys(table, "1") for table in content["rates"]]
    book = tmp_path / "flat.json.gz"
    book.write_bytes(compiler.pack(compiler.serialise(content)))
    reprice = [*COMMAND, "reprice", "--since", "all", "--data-dir", str(ledger), "--book", str(book)]
    done = subprocess.run(reprice, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert " Calls with another price: 72; " in done.stdout
    assert f" priced by {read_book(book).book_id}.\nnothing written;" in done.stdout


# --- batches --------------------------------------------------------------------------------------------
class Odd(BaseHTTPRequestHandler):
    """What stands at an address that was mistyped, or a provider that is cut off."""

    def do_GET(self) -> None:
        """By the first part of the path."""
        _, kind, *rest = self.path.split("/")
        batch = json.dumps({"id": "b", "status": "completed", "output_file_id": "f"}).encode()
        body = {"html": b"<html>", "list": b"[]", "cut": batch if rest[0] == "batches" else b"{}"}[kind]
        self.send_response(200)
        self.send_header("content-length", str(len(body) + (1000 if rest[0] == "files" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing."""


@pytest.fixture
def odd() -> Generator[str]:
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("key", "address", "code", "message"),
    [
        ("sk-1", "http://host:port", 2, "'http://host:port' is no http(s) address"),
        ("sk-1", "http://[host", 2, "'http://[host' is no http(s) address"),
        ("sk-1", "host", 2, "'host' is no http(s) address"),
        ("sk-1\n", "{odd}", 2, "OPENAI_API_KEY has a line break, or another character that is in no key"),
        ("sk-ü", "{odd}", 2, "OPENAI_API_KEY has a line break, or another character that is in no key"),
        (
            "sk-1",
            "{odd}/html",
            1,
            "{odd}/html/batches/b answers no JSON object: does {odd}/html speak the provider's API?",
        ),
        (
            "sk-1",
            "{odd}/list",
            1,
            "{odd}/list/batches/b answers no JSON object: does {odd}/list speak the provider's API?",
        ),
        (
            "sk-1",
            "{odd}/cut",
            1,
            "the results of b broke off after 0 calls (IncompleteRead): run it again, no call is charged twice",
        ),
    ],
)
def test_a_batch_that_cannot_be_read(
    odd: str,
    key: str,
    address: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    arguments = f"batch --provider openai --id b --base-url {address} --endpoint http://127.0.0.1:9"
    assert told(arguments.format(odd=odd), capsys) == (code, f"genai-meter batch: {message}\n".format(odd=odd))


# --- as a process ---------------------------------------------------------------------------------------
@pytest.fixture
def unread(ledger: Path) -> Generator[Path]:
    """The ledger's file without a right for anybody."""
    file = ledger / "ledger.db"
    file.chmod(0)
    yield file
    file.chmod(0o644)


def weakly(arguments: str) -> subprocess.CompletedProcess[str]:
    """As a user whom rights hold: root may read anything."""
    held = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    return subprocess.run([*held, *COMMAND, *shlex.split(arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", ["usage", "store check", "store migrate --dry-run", "quarantine"])
def test_a_store_that_may_not_be_read(unread: Path, arguments: str) -> None:
    done = weakly(f"{arguments} --data-dir {unread.parent}")
    if "setpriv" in done.stderr:
        pytest.skip(f"capabilities cannot be given up here: {done.stderr.strip()}")
    expected = f"genai-meter {arguments.split()[0]}: {unread} cannot be read: permission denied\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    """An address of documentation (RFC 5737) is nobody's."""
    file = tmp_path / "config.yaml"
    file.write_text("listen: {host: 192.0.2.1, grpc_port: 0, http_port: 0, metrics_port: 0}\n", encoding="utf-8")
    serve = [*COMMAND, "serve", "--config", str(file), "--data-dir", str(tmp_path)]
    refused = subprocess.run(serve, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "genai-meter serve: cannot listen on 192.0.2.1:0 (listen.http_port)" in refused.stderr
    with subprocess.Popen([*serve, "--host", "127.0.0.1"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        addresses = [running.stdout.readline().split()[1] for _ in range(3)]
        running.terminate()
        assert running.wait(60) == 0
    assert [address.removeprefix("http://").partition(":")[0] for address in addresses] == ["127.0.0.1"] * 3


@pytest.mark.parametrize("arguments", ["usage --by call_id --since all --format csv", "rules"])
def test_a_reader_that_stops_reading(ledger: Path, arguments: str) -> None:
    more = "" if arguments == "rules" else f" --data-dir {ledger}"
    shell = f"{shlex.join(COMMAND)} {arguments}{more} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 1, "")


@pytest.mark.parametrize("arguments", ["usage", "usage --format csv", "rules"])
def test_nobody_to_write_to(ledger: Path, arguments: str) -> None:
    more = "" if arguments == "rules" else f" --data-dir {ledger}"
    shell = f"{shlex.join(COMMAND)} {arguments}{more} >&-"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
