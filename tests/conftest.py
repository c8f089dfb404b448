"""Fixtures that several parts share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from genai_meter.pricing import build, resolver

from examples.provider import Provider

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A fresh stand-in provider on a free port."""
    with Provider() as running:
        yield running


@pytest.fixture(autouse=True, scope="session")
def young_book() -> Iterator[None]:
    """The shipped prices stay fresh: what tests say of calls that are made now must hold for years."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "STALE_AFTER_DAYS", 36_500)
        yield


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    """A command run inside a test may price by an overlay of its own; no later one does."""
    before = resolver.resolver()
    yield
    resolver.use(before)


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """A command run inside a test writes its log to that test's standard error, and to no later one's."""
    logger = logging.getLogger()
    before, level = list(logger.handlers), logger.level
    yield
    kept = [handler for handler in logger.handlers if handler in before or type(handler) is not logging.StreamHandler]
    if len(kept) < len(logger.handlers):
        logger.handlers[:] = kept
        logger.setLevel(level)


@pytest.fixture(scope="session")
def traffic() -> Path:
    """The directory of recorded traffic: `GENAI_METER_TRAFFIC`, else beside the repository."""
    return _recorded("GENAI_METER_TRAFFIC", "traffic")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The file of pricing vectors: `GENAI_METER_VECTORS`, else beside the repository."""
    return _recorded("GENAI_METER_VECTORS", "reference/vectors.json")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A database of a PostgreSQL server of the tests' own; skips where there can be none."""
    from postgres_kit import served

    with served() as server:
        yield server.url("ledger")


def _recorded(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    if not path.exists():
        pytest.skip(f"{path} is not on this machine; {variable} can name it elsewhere")
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests recorded (`record_property("table", text)`), also from xdist's workers."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "table":
                    terminalreporter.section(report.nodeid)
                    terminalreporter.write_line(str(text))
