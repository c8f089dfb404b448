"""ClickHouse in this process (chdb), for tests: one engine a process, a database each ledger."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from environments import CHDB


def site_packages() -> Path:
    """Where chdb is, with nothing else."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return CHDB.python().parents[1] / "lib" / version / "site-packages"


@functools.cache
def engine() -> Any:
    """A client that stays open: without any the engine would stop."""
    try:
        place = str(site_packages())
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"chdb cannot be installed here: {error}")
    if place not in sys.path:
        # Last: what the suite has is not hidden.
        sys.path.append(place)
    from genai_meter_exporter.store.clickhouse_reader import connect

    directory = tempfile.mkdtemp(prefix="genai-meter-clickhouse-")
    client = connect(f"chdb://{directory}/default")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(client.close)
    return client


def new_database() -> str:
    """The URL of an empty database."""
    name = f"ledger_{uuid.uuid4().hex}"
    engine().command(f"CREATE DATABASE {name}")
    return f"chdb://{engine().path}/{name}"
