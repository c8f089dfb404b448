"""Configuration of the application half."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from genai_meter import environment
from genai_meter.environment import HashKey, Settings

ROOT = Path(__file__).resolve().parent.parent


def test_nothing_set_gives_the_defaults() -> None:
    assert environment.read({}) == Settings(
        disabled=False,
        semconv="both",
        inject_usage=True,
        baggage_in=(),
        baggage_out=(),
        hash_keys=(),
        hash_user=False,
        request_hash=False,
        price_overlay=None,
        attribution={},
    )


def test_everything_set_is_read() -> None:
    assert environment.read(
        {
            "GENAI_METER_DISABLED": "1",
            "GENAI_METER_SEMCONV": "Latest",
            "GENAI_METER_INJECT_USAGE": "off",
            "GENAI_METER_BAGGAGE": "tenant, feature",
            "GENAI_METER_BAGGAGE_IN": "tenant",
            "GENAI_METER_HASH_KEY": "2026-11:0123456789abcdef,old:fedcba9876543210",
            "GENAI_METER_HASH_USER": "true",
            "GENAI_METER_REQUEST_HASH": "yes",
            "GENAI_METER_PRICE_OVERLAY": "/etc/genai-meter/overlay.json",
            "GENAI_METER_PRICE_BOOK": "/etc/genai-meter/book.json",
            "GENAI_METER_TEAM": "search",
            "GENAI_METER_TENANT_SEGMENT": "enterprise",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,genai_meter.team=other,genai_meter.project=p%20one",
        }
    ) == Settings(
        disabled=True,
        semconv="latest",
        inject_usage=False,
        baggage_in=("tenant",),
        baggage_out=("tenant", "feature"),
        hash_keys=(HashKey("2026-11", b"0123456789abcdef"), HashKey("old", b"fedcba9876543210")),
        hash_user=True,
        request_hash=True,
        price_overlay="/etc/genai-meter/overlay.json",
        price_book="/etc/genai-meter/book.json",
        attribution={"project": "p one", "team": "search", "tenant_segment": "enterprise"},
    )


def test_a_hash_key_may_come_without_a_name() -> None:
    assert environment.read({"GENAI_METER_HASH_KEY": "0123456789abcdef"}).hash_keys == (
        HashKey("0", b"0123456789abcdef"),
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("GENAI_METER_DISABLED", "perhaps", "true or false; using the default false"),
        ("GENAI_METER_SEMCONV", "newest", "both, latest or legacy; using the default both"),
        (
            "GENAI_METER_BAGGAGE",
            "tenant,mood",
            "field names of attribution; unknown: mood; using the default (unset)",
        ),
        (
            "GENAI_METER_HASH_KEY",
            "k:short-CANARY",
            "secrets of at least 16 characters; using the default (unset)",
        ),
        (
            "GENAI_METER_HASH_KEY",
            "a:0123456789abcdef,a:fedcba9876543210",
            "key ids that differ; using the default (unset)",
        ),
    ],
)
def test_a_wrong_value_is_named_in_one_line_and_its_default_used(
    name: str, value: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "genai_meter"):
        assert environment.read({name: value}) == Settings()
    assert caplog.messages == [f"{name}: wrong value, expected {expected}"]


def test_a_misspelt_variable_is_named_and_others_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "genai_meter"):
        environment.read({"GENAI_METER_TENENT": "acme", "GENAI_METER_TRAFFIC": "/x", "OTHER": "1"})
    assert caplog.messages == ["GENAI_METER_TENENT is unknown and ignored; did you mean GENAI_METER_TENANT?"]


@pytest.mark.parametrize("name", ["HASH_USER", "REQUEST_HASH"])
def test_hashing_without_a_key_is_said(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "genai_meter"):
        environment.read({f"GENAI_METER_{name}": "true"})
    assert caplog.messages == [f"GENAI_METER_{name} needs GENAI_METER_HASH_KEY; nothing is hashed"]


def test_a_secret_never_shows_in_the_settings() -> None:
    assert "0123456789abcdef" not in repr(environment.read({"GENAI_METER_HASH_KEY": "k:0123456789abcdef"}))


def test_settings_are_read_once_and_again_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    first = environment.reload()
    monkeypatch.setenv("GENAI_METER_SEMCONV", "legacy")
    assert environment.settings() is first
    assert environment.reload().semconv == "legacy"
    monkeypatch.undo()
    environment.reload()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("acme", "acme"),
        (42, "42"),
        ("  spaced ", "spaced"),
        ("two\nlines\x00and\x7fmore\u2028here", "two lines and more here"),
        ("x" * 300, "x" * 256),
        ("\ud800", "?"),
        ("Zoë Ⅷ 客", "Zoë Ⅷ 客"),
    ],
)
def test_values_are_bounded_and_clean(value: object, expected: str) -> None:
    assert environment.clean(value) == expected


def test_the_table_in_the_docs_is_the_table_in_the_code() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    printed = subprocess.run(
        [sys.executable, "-m", "genai_meter.environment"], capture_output=True, text=True, check=True
    ).stdout
    assert printed in page, "docs/configuration.md: paste what `python -m genai_meter.environment` prints"
    for variable in environment.VARIABLES:
        assert page.count(f"| `{variable.name}` |") == 1
