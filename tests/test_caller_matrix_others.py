"""The caller matrix of the other libraries: a file of its own, for another process of the suite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.matrix.families import FAMILIES
from tests.matrix.runner import Runs
from tests.matrix.suite import FIRST, OTHERS, check_ends, ends


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return ends(tmp_path_factory.mktemp("matrix"), OTHERS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", OTHERS)
def test_oldest_and_newest(runs: Runs, family: str, record_property: Callable[[str, object], None]) -> None:
    check_ends(runs, family, record_property)


def test_every_family_is_run_by_one_file() -> None:
    assert sorted([*FIRST, *OTHERS]) == sorted(FAMILIES)
