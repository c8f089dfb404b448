"""Runs families in environments: the tables, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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


class Runs:
    """Some families on some of their versions; an environment is run when the first family asks for it."""

    def __init__(self, directory: Path, names: tuple[str, ...], rows: Rows) -> None:
        self._directory = directory
        self._rows: Rows = rows
        self.environments = environments(*names, rows=rows)
        self._played: dict[Environment, dict[str, dict[str, Any]]] = {}
        declare(*names)

    def results(self, environment: Environment) -> dict[str, dict[str, Any]]:
        """Mode → what every scenario gave there."""
        if environment not in self._played:
            families = self.environments[environment]
            self._played[environment] = {
                mode: found
                for modes in self._processes(environment)
                for mode, found in table.play(environment, families, modes, self._directory).items()
            }
        return self._played[environment]

    def _processes(self, environment: Environment) -> tuple[tuple[str, ...], ...]:
        """The short form imports the oldest libraries once; their patches come later than an application's."""
        newest = any(environment == FAMILIES[name].environments[-1] for name in self.environments[environment])
        return table.PROCESSES if newest or self._rows != "ends" else (table.FORKED,)

    def columns(self, family: str) -> dict[str, table.Column]:
        """Version → verdicts."""
        own: dict[str, table.Column] = {}
        for environment in chosen(family, self._rows):
            head = environment.version_of(FAMILIES[family].package)
            # The same version with other packages around it.
            head = f"{head} ({environment.name})" if head in own else head
            own[head] = table.verdicts(family, self.results(environment))
        return own


def run(directory: Path, *names: str, rows: Rows = "ends") -> Outcome:
    """Run some families (all when none is named) on some of their versions."""
    runs = Runs(directory, names, rows)
    for environment in runs.environments:
        environment.python()
    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(runs.results, runs.environments))
    return Outcome({family: runs.columns(family) for family in names or tuple(FAMILIES)})
