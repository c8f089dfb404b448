"""Runs families in environments: the tables, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.environments import Environment

from . import table
from .families import FAMILIES, Rows, chosen, declare, environments

PROCESSES: Final = 2
"""At a time."""


@dataclass(frozen=True)
class Outcome:
    """What a run found."""

    columns: Mapping[str, Mapping[str, table.Column]]
    """Family → version → verdicts."""

    @property
    def wrong(self) -> list[str]:
        """Everything that is not as it should be."""
        return [
            f"{family} {head} {name}: {line}"
            for family, columns in self.columns.items()
            for head, column in columns.items()
            for name, (_, lines) in column.items()
            for line in lines
        ]

    def text(self) -> str:
        """A table for each family."""
        return "\n\n".join(table.table(family, columns) for family, columns in self.columns.items())


def run(directory: Path, *names: str, rows: Rows = "ends") -> Outcome:
    """Run some families (all when none is named) on some of their versions."""
    wanted = environments(*names, rows=rows)
    declare(*names)
    for environment in wanted:
        environment.python()
    with ThreadPoolExecutor(PROCESSES) as pool:
        futures: dict[Environment, list[Future[dict[str, dict[str, Any]]]]] = {
            environment: [pool.submit(table.play, environment, families, modes, directory) for modes in table.PROCESSES]
            for environment, families in wanted.items()
        }
    results = {
        environment: {mode: found for part in parts for mode, found in part.result().items()}
        for environment, parts in futures.items()
    }
    columns: dict[str, dict[str, table.Column]] = {}
    for family in names or tuple(FAMILIES):
        own = columns.setdefault(family, {})
        for environment in chosen(family, rows):
            head = environment.version_of(FAMILIES[family].package)
            # The same version with other packages around it.
            head = f"{head} ({environment.name})" if head in own else head
            own[head] = table.verdicts(family, results[environment])
    return Outcome(columns)
