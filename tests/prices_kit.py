"""What the pricing tests share: a fixed instant, usage in one word, an overlay from text."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, Final

from genai_meter.pricing import Cost
from genai_meter.pricing.book import Book, read_book
from genai_meter.pricing.build import STALE_AFTER_DAYS
from genai_meter.pricing.cost import usd
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import Overlay, instant, read_entries
from genai_meter.usage import Quantity, Usage
from genai_meter_exporter.prices.overlay_yaml import compile_texts


def _stale_at() -> float:
    told = datetime.fromisoformat(read_book().data_date).replace(tzinfo=UTC)
    return (told + timedelta(days=STALE_AFTER_DAYS)).timestamp()


NOON: Final = instant("2026-11-20T12:00:00Z")
"""A Friday."""

SURE: Final = "exact" if time.time() < _stale_at() else "estimated"
"""Status of a plain price of a call that another process makes now: the shipped book ages."""

HEAD: Final = "schema: pricebook-overlay/1\nbook: acme\nentries:\n"
"""The first lines of an overlay."""

DISCOUNT: Final = """
    - id: d
      kind: discount
      match: {provider: openai}
      effective_from: 2026-10-01T00:00:00Z
      effective_to: 2026-12-01T00:00:00Z
      multiplier: "0.9"
"""

ACME: Final = """\
schema: pricebook-overlay/1
book: acme
entries:
  - id: acme-openai-12pct
    kind: discount
    match: {provider: openai, model: "*"}
    effective_from: 2026-10-01T00:00:00Z
    effective_to: 2027-10-01T00:00:00Z
    multiplier: "0.88"
    applies_to: [tokens]
    source: "MSA-2026-114 sched. B"
"""


@cache
def shipped() -> Book:
    """The book in the tree, read once a process."""
    return read_book()


def resolver(entries: str | None = None) -> Resolver:
    """The shipped book, with an overlay of these YAML entries."""
    if entries is None:
        return Resolver(shipped())
    return Resolver(shipped(), overlay(f"schema: pricebook-overlay/1\nbook: test\nentries:\n{indented(entries)}"))


def indented(entries: str) -> str:
    """YAML entries at the depth they have in a file."""
    return indent(dedent(entries).strip("\n"), "  ") + "\n"


def overlay(text: str) -> Overlay:
    """A whole overlay from YAML."""
    document = compile_texts([(text, "overlay.yaml")])
    return Overlay(read_entries(document["entries"], 1), document["sha256"])


def cost(
    prices: Resolver,
    provider: str,
    model: str,
    at: str | int = NOON,
    context: dict[str, str] | None = None,
    **buckets: Quantity,
) -> Cost:
    """The cost of one usage."""
    at_ns = instant(at) if isinstance(at, str) else at
    return prices.price(provider, model, [Usage(dict(buckets))], at_ns, context or {})


def listed(found: Cost) -> Decimal | None:
    """List cost in USD."""
    return None if found.list_pico is None else usd(found.list_pico)


def effective(found: Cost) -> Decimal | None:
    """Effective cost in USD."""
    return None if found.effective_pico is None else usd(found.effective_pico)


def command(
    *arguments: str | Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `genai-meter prices …` in a process of its own."""
    import os

    program = "import sys; from genai_meter_exporter.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, "prices", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )


def calc(records: Sequence[dict[str, Any]], *arguments: str | Path) -> list[dict[str, Any]]:
    """The results of `prices calc` for these records."""
    done = command("calc", *arguments, stdin="".join(json.dumps(record) + "\n" for record in records))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
