"""Errors of ours end in one place, whatever it was asked to call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from genai_meter import interop, safety
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider


@pytest.fixture(autouse=True)
def _counted_here_only() -> Iterator[None]:
    yield
    safety.internal_errors.clear()


def broken(*_arguments: Any) -> None:
    raise LookupError("broken")


class Broken:
    def __call__(self) -> None:
        raise LookupError("broken")


@pytest.mark.parametrize(
    ("function", "place"),
    [(broken, "broken"), (partial(broken, 1), "broken"), (Broken(), "Broken"), (partial(Broken()), "Broken")],
)
def test_a_callable_of_any_kind_is_guarded_and_named(function: Any, place: str) -> None:
    safety.internal_errors.clear()
    assert safety.guarded(function) is None
    assert dict(safety.internal_errors) == {place: 1}


def test_a_foreign_span_ends_whatever_becomes_of_its_enrichment() -> None:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("theirs").start_span("chat")
    interop.before_end(span, partial(broken, span))
    span.end()
    assert isinstance(span, ReadableSpan)
    assert span.end_time is not None
