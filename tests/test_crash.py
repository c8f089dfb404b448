"""kill -9 under load: what was acknowledged is in the ledger once, and the counters equal it before and after."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from exporter_kit import NOW, Served, usage_event
from load_kit import GONE, Load, ledger, near, scraped, stored, under_load


@dataclass
class Watcher:
    """Scrapes all the time: every scrape lies between the ledger just before it and just after it."""

    served: Served
    scrapes: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def watch(self, load: Load) -> None:
        """Until it is over."""
        last = (0, 0)
        while not load.over.is_set():
            load.running.wait()
            try:
                before = ledger(self.served)
                seen = scraped(self.served)
            except (*GONE, KeyError):
                continue
            after = ledger(self.served)
            self.scrapes += 1
            if not (before[0] <= seen[0] <= after[0] and near(before[1]) <= seen[1] <= near(after[1])):
                self.wrong.append(f"scraped {seen} between {before} and {after}")
            if seen < last:
                self.wrong.append(f"fell from {last} to {seen}")
            last = seen


def drill(data: Path, kills: int) -> dict[str, int]:
    """Kill an exporter under load `kills` times; returns the figures."""
    chance = random.Random(7)
    restarts_unequal = 0
    with Served(data) as served:
        watcher = Watcher(served)
        with under_load(served, watch=watcher.watch) as load:
            for _ in range(kills):
                time.sleep(chance.uniform(0.3, 1.0))
                with load.paused():
                    served.kill()
                    served.start()
                    calls, cost = ledger(served)
                    restarts_unequal += scraped(served) != (calls, near(cost))
        calls, cost = ledger(served)
        figures = {
            "kills": kills,
            "acknowledged": load.due[0],
            "requests sent again": load.resent,
            "lost": len(load.acknowledged.keys() - stored(served)),
            "doubled": calls - load.due[0],
            "pico-USD off": cost - load.due[1],
            "scrapes": watcher.scrapes,
            "scrapes wrong": len(watcher.wrong),
            "restarts with another total": restarts_unequal,
            "final total off": int(scraped(served) != (calls, near(cost))),
        }
        assert not watcher.wrong, watcher.wrong[:5]
        assert served.stop() == 0
    return figures


def check(figures: dict[str, int]) -> None:
    """Nothing lost, nothing doubled, every total equal."""
    print(figures)
    assert figures["acknowledged"] > 20 * figures["kills"]
    assert figures["requests sent again"] > 0
    assert figures["scrapes"] > 0
    zero = ("lost", "doubled", "pico-USD off", "scrapes wrong", "restarts with another total", "final total off")
    assert {name: figures[name] for name in zero} == dict.fromkeys(zero, 0)


def test_five_kills_under_load(tmp_path: Path) -> None:
    check(drill(tmp_path / "data", 5))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_under_load(tmp_path: Path) -> None:
    check(drill(tmp_path / "data", 100))


def test_a_sync_is_counted_before_every_acknowledgement(tmp_path: Path) -> None:
    with Served(tmp_path / "data") as served:
        for number in range(1, 21):
            before = served.value("store_syncs_total")
            event = usage_event(start_ns=NOW + number)
            assert before is not None
            served.send(event)
            after = served.value("store_syncs_total")
            assert after is not None
            assert after > before
            served.send(event)
            again = served.value("store_syncs_total")
            assert again is not None
            assert again > after


def test_the_kernel_is_asked_to_sync_the_log_before_every_acknowledgement(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace is not here or may not trace; the counter's test stands alone")
    trace = tmp_path / "trace"
    served = Served(tmp_path / "data")
    # -D: the exporter stays our own child, strace runs beside it.
    served.wrapper = (strace, "-D", "-f", "-y", "-qq", "-s", "32", "-o", str(trace))
    served.wrapper += ("-e", "trace=fsync,fdatasync,recvfrom,sendto")
    with served:
        for number in range(10):
            served.send(usage_event(start_ns=NOW + number))
    sequence = ""
    deadline = time.monotonic() + 60
    while sequence.count("A") < 10 and time.monotonic() < deadline:
        sequence = "".join(_kind(line) for line in trace.read_text(encoding="utf-8").splitlines())
    assert re.fullmatch(r"S*(RS+A)+S*", sequence), sequence
    assert sequence.count("R") == sequence.count("A") == 10


def _kind(line: str) -> str:
    """R: a request arrives. S: the write-ahead log has been synced. A: it is acknowledged."""
    if "POST /v1/logs" in line and "recvfrom(" in line:
        return "R"
    if re.search(r"f(data)?sync\(\d+<[^>]*ledger\.db-wal>", line):
        return "S"
    return "A" if "HTTP/1.1 200 OK" in line and "sendto(" in line else ""
