"""Tokens switched on: what the application, its spool and `genai-meter batch` send with a token, a wrong one, none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from access_kit import bearer, make_token
from exporter_kit import Served, fetch
from genai_meter import emit, environment
from genai_meter_exporter.cli import main
from genai_meter_exporter.store import Query, open_readonly
from prometheus_client.parser import text_string_to_metric_families
from spool_kit import make, on_disk, spooling, states, wait_until, write_file
from test_batches import CHAT, forget, ordered

from examples.provider import Provider

NO_TOKEN = '{"version": 1, "tokens": []}'
UNKNOWN = "answers HTTP 401: a token that holds is needed"
"""How a refusal begins."""
READER = "answers HTTP 403: the token does not have the scope ingest"
WHAT_TO_DO = "(GENAI_METER_SPOOL_HEADERS is for a token with the scope ingest)"


class Guarded:
    """An exporter that wants tokens."""

    def __init__(self, place: Path) -> None:
        self.tokens = place / "tokens.json"
        self.reads = make_token(self.tokens, "read", name="prometheus")
        self.ingests = make_token(self.tokens, "ingest", name="shop")
        self.served = Served(place, {"access": {"tokens": self.tokens.name}})

    def token(self, scope: str) -> str:
        """The one with this scope."""
        return {"read": self.reads, "ingest": self.ingests}[scope]

    def rows(self) -> int:
        """Calls in the ledger."""
        reader = open_readonly(self.served.ledger)
        try:
            return reader.totals()[0]
        finally:
            reader.close()

    def refused(self) -> int:
        """Requests that it has refused."""
        page = fetch(self.served.metrics_url, None, bearer(self.reads)).body.decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        (found,) = [s.value for s in samples if s.name.endswith("ingest_events_total") and s.labels == REJECTED]
        return round(found)


REJECTED = {"status": "rejected"}


@pytest.fixture
def guarded(tmp_path: Path) -> Generator[Guarded]:
    """A running one."""
    made = Guarded(tmp_path / "exporter")
    with made.served:
        yield made


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """No settings of another test."""
    environment.reload()
    yield
    monkeypatch.undo()
    environment.reload()


def header(token: str) -> str:
    """As variables have it."""
    return f"authorization=Bearer%20{token}"


# --- the application --------------------------------------------------------------------------------------
PROGRAM = """
import openai
openai.OpenAI(max_retries=0).chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}])
"""


def application(provider: Provider, **variables: str) -> subprocess.CompletedProcess[str]:
    """One call of a program under `opentelemetry-instrument`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "GENAI_METER_", "OPENAI_"))}
    environ = {
        **kept,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "OTEL_METRICS_EXPORTER": "none",
        **variables,
    }
    program = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, "-c", PROGRAM]
    return subprocess.run(program, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_an_application_sends_its_token(guarded: Guarded, protocol: str) -> None:
    served = guarded.served
    where = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{served.grpc}" if protocol == "grpc" else served.http,
        "OTEL_EXPORTER_OTLP_HEADERS": header(guarded.token("ingest")),
    }
    with Provider() as provider:
        done = application(provider, **where)
        assert (done.returncode, guarded.rows(), guarded.refused()) == (0, 1, 0), done.stderr
        if protocol == "grpc":
            return
        done = application(provider, **{**where, "OTEL_EXPORTER_OTLP_HEADERS": header("gmt_wrong")})
    # The program does not care; the SDK tells its log.
    assert (done.returncode, guarded.rows()) == (0, 1), done.stderr
    assert guarded.refused() >= 1
    assert "401" in done.stderr


# --- the spool --------------------------------------------------------------------------------------------
def status(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `genai-meter spool status` prints."""
    capsys.readouterr()
    assert main(["spool", "status", str(place)]) == 0
    pairs = (line.partition("  ") for line in capsys.readouterr().out.splitlines())
    return {name: told.strip() for name, _, told in pairs}


def test_a_spool_ships_with_its_token(guarded: Guarded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, token = tmp_path / "spool", guarded.token("ingest")
    with spooling(place, guarded.served.http, SPOOL_HEADERS=header(token)) as pipeline:
        for number in range(3):
            make(number)
        wait_until(lambda: guarded.rows() == 3)
        wait_until(lambda: states(pipeline).get("acknowledged") == 3)
    assert (on_disk(place), guarded.refused()) == ([], 0)
    assert "last delivery failed" not in status(place, capsys)


@pytest.mark.parametrize(("scope", "why"), [("ingest", UNKNOWN), ("read", READER)])
def test_without_the_right_token_a_spool_keeps_everything_and_tells_why(
    guarded: Guarded,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    scope: str,
    why: str,
) -> None:
    """Until the token is what it should be: then all of it goes, without a restart."""
    place, token = tmp_path / "spool", guarded.token(scope)
    granted = guarded.tokens.read_text(encoding="utf-8")
    if scope == "ingest":
        # As if it had been revoked.
        guarded.tokens.write_text(NO_TOKEN, encoding="utf-8")
        time.sleep(1.1)
    with spooling(place, guarded.served.http, SPOOL_HEADERS=header(token)) as pipeline:
        began = time.monotonic()
        for number in range(3):
            make(number)
        wait_until(lambda: why in status(place, capsys).get("last delivery failed", ""))
        assert status(place, capsys)["last delivery failed"].endswith(WHAT_TO_DO)
        time.sleep(max(0.0, 5 - (time.monotonic() - began)))
        assert (len(on_disk(place)), guarded.rows()) == (3, 0)
        assert states(pipeline) == {"spooled": 3}
        assert [record.message for record in caplog.records if why in record.message] != []
        assert sum(why in record.message for record in caplog.records) == 1
        assert token not in caplog.text + repr(status(place, capsys))
        guarded.tokens.write_text(granted.replace('"read"', '"ingest"'), encoding="utf-8")
        wait_until(lambda: guarded.rows() == 3)
        wait_until(lambda: states(pipeline).get("acknowledged") == 3)
        guarded.tokens.write_text(granted, encoding="utf-8")
    time.sleep(1.1)
    # After 1, 1 to 2, and 1 to 4 seconds, and so on: half a minute in the end.
    assert guarded.refused() <= 8
    assert on_disk(place) == []
    assert "last delivery failed" not in status(place, capsys)


@pytest.mark.parametrize(("scope", "why"), [(None, UNKNOWN), ("read", READER)])
def test_shipping_by_hand_needs_the_token_too(
    guarded: Guarded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scope: str | None,
    why: str,
) -> None:
    place = tmp_path / "spool"
    with spooling(place):
        make(1)
        make(2)
    ship = ["spool", "ship", str(place), "--endpoint", guarded.served.http]
    if scope is not None:
        monkeypatch.setenv("GENAI_METER_SPOOL_HEADERS", header(guarded.token(scope)))
        environment.reload()
    assert main(ship) == 1
    assert f"{guarded.served.http}/v1/logs {why}" in (told := capsys.readouterr().err)
    assert told.endswith(f"{WHAT_TO_DO}; the rest stays\n")
    assert (len(on_disk(place)), guarded.rows(), guarded.refused()) == (2, 0, 1)
    assert why in status(place, capsys)["last delivery failed"]
    monkeypatch.setenv("GENAI_METER_SPOOL_HEADERS", header(guarded.token("ingest")))
    environment.reload()
    assert main(ship) == 0
    assert capsys.readouterr().out == "2 events acknowledged\n"
    assert (list(place.iterdir()), guarded.rows()) == ([], 2)


def test_following_does_not_hammer_an_exporter_that_refuses(guarded: Guarded, tmp_path: Path) -> None:
    """Many files, one request; the next one later and later."""
    place = tmp_path / "spool"
    for number in range(20):
        write_file(place, [["genai_meter.outcome", 1, 1, "", "", 0, {"genai_meter.outcome.name": str(number)}]])
    program = "import sys; from genai_meter_exporter.cli import main; sys.exit(main())"
    ship = ["spool", "ship", str(place), "--endpoint", guarded.served.http, "--follow"]
    follower = subprocess.Popen(
        [sys.executable, "-c", program, *ship], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: guarded.refused() == 2)
    # After five seconds, then after ten.
    time.sleep(5)
    assert guarded.refused() == 2
    follower.terminate()
    out, err = follower.communicate(timeout=60)
    assert (follower.returncode, out, err.count(UNKNOWN)) == (0, "0 events acknowledged\n", 1)
    assert len(on_disk(place)) == 20


# --- batch ------------------------------------------------------------------------------------------------
@contextmanager
def batch(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """A batch that is done: the command that fetches it."""
    with Provider() as provider, openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test") as client:
        done = ordered(client, CHAT, CHAT)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield ["batch", "--provider", "openai", "--id", done.id, "--base-url", f"{provider.url}/v1"]
    emit.flush()


@pytest.mark.parametrize("variable", ["GENAI_METER_SPOOL_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])
def test_batches_are_sent_with_a_token(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    refusals = [(None, UNKNOWN), (guarded.token("read"), READER), ("gmt_000000000000_wrong", UNKNOWN)]
    with batch(monkeypatch) as command:
        command += ["--endpoint", guarded.served.http]
        for token, why in refusals:
            if token is not None:
                monkeypatch.setenv(variable, header(token))
            environment.reload()
            forget()
            before = guarded.refused()
            assert main(command) == 1
            told = capsys.readouterr().err
            assert told == f"genai-meter batch: {guarded.served.http}/v1/logs {why}{_rest(why)} {WHAT_TO_DO}\n"
            assert (guarded.refused() - before, guarded.rows()) == (1, 0)
        monkeypatch.setenv(variable, header(guarded.token("ingest")))
        environment.reload()
        for _ in range(2):
            forget()
            assert main(command) == 0
            assert ": 2 calls sent, " in capsys.readouterr().out
    reader = open_readonly(guarded.served.ledger)
    (row,) = reader.report(Query(("service", "processing")))
    reader.close()
    assert (row["service"], row["processing"], row["calls"]) == ("genai-meter batch", "batch", 2)


def _rest(why: str) -> str:
    return ": `Authorization: Bearer …` (`genai-meter token create`)" if why == UNKNOWN else ""
