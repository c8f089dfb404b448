"""The table of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.traffic.judge import Verdict

COLUMNS: Final = (
    "provider",
    "operation",
    "form",
    "driven",
    "usage equal",
    "values equal",
    "broken",
    "spans ended once",
    "price",
)
SHOWN: Final = 40


@dataclass(slots=True)
class Report:
    """Verdicts of all exchanges, and what was left at the end of the process with the plugin."""

    verdicts: Sequence[Verdict]
    end: Mapping[str, Any]

    @property
    def failures(self) -> list[Verdict]:
        """Verdicts with a problem."""
        return [v for v in self.verdicts if v.problems]

    @property
    def good(self) -> bool:
        """Nothing differs, nothing was left over."""
        return not self.failures and not any(self.end.values()) and any(v.skipped is None for v in self.verdicts)

    def text(self) -> str:
        """The table and, below it, what is not in it."""
        groups: dict[tuple[str, str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            if verdict.skipped is None:
                key = (verdict.exchange.provider, verdict.exchange.operation, verdict.form)
                groups.setdefault(key, []).append(verdict)
        rows = [COLUMNS, *(_row(key, group) for key, group in sorted(groups.items()))]
        rows.append(_row(("total", "", ""), [v for v in self.verdicts if v.skipped is None]))
        return "\n".join([*_aligned(rows), "", *self._notes()])

    def _unpriced(self) -> Iterable[str]:
        """Models without a price: provider by provider, with how often."""
        found: dict[str, Counter[str]] = {}
        for verdict in self.verdicts:
            if verdict.price == "unpriced" and verdict.form == "sync":
                found.setdefault(verdict.exchange.provider, Counter())[verdict.model or "(no model told)"] += 1
        for provider, models in sorted(found.items()):
            yield f"unpriced: {provider}: {_counted(models)}"

    def _notes(self) -> Iterable[str]:
        skipped = Counter((v.exchange.provider, v.skipped) for v in self.verdicts if v.skipped and v.form == "sync")
        for (provider, reason), n in sorted(skipped.items()):
            yield f"not driven: {provider}: {n} ({reason})"
        yield from self._unpriced()
        for verdict in self.verdicts:
            for problem, text in verdict.known.items():
                if verdict.form == "sync":
                    yield f"known: {verdict.exchange.id}: {problem}: {text}"
        for verdict in self.failures[:SHOWN]:
            for problem, text in verdict.problems.items():
                yield f"DIFFERS: {verdict.exchange.id} ({verdict.form}): {problem}: {text}"
        if len(self.failures) > SHOWN:
            yield f"… and {len(self.failures) - SHOWN} more"
        yield "left at the end: " + ", ".join(f"{name} {value or 0}" for name, value in self.end.items())


def _counted(models: Counter[str]) -> str:
    return ", ".join(f"{model} {n}" for model, n in sorted(models.items()))


def _row(key: tuple[str, str, str], group: Sequence[Verdict]) -> tuple[str, ...]:
    wrong = Counter(problem for verdict in group for problem in verdict.problems.keys() | verdict.known.keys())
    told = sum(verdict.usage_known for verdict in group)
    silent = len(group) - told
    prices = Counter(verdict.price for verdict in group if verdict.price is not None)
    usage = f"{len(group) - wrong['usage']}/{len(group)}" + (f" ({silent} tell none)" if silent else "")
    return (
        *key,
        str(len(group)),
        usage,
        f"{len(group) - wrong['values'] - wrong['broken']}/{len(group)}",
        str(wrong["broken"]),
        f"{len(group) - wrong['spans']}/{len(group)}",
        ", ".join(f"{n} {status}" for status, n in sorted(prices.items())) or "-",
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
