"""Memory of calls: while one runs, while streams are open, and after fifty thousand."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from genai_meter import attribute, environment

from benchmarks import wire
from benchmarks.calls import installed
from benchmarks.telemetry import Telemetry
from benchmarks.workers import Run

STREAMS: Final = 8
CHUNKS: Final = 150
TENANTS: Final = 50


def peak_of_call(run: Run) -> int:
    """Most bytes held at once by one call, beyond what was held before it."""
    peaks: list[int] = []
    tracemalloc.start()
    for _ in range(15):
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run(1)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return int(statistics.median(peaks))


def open_streams(telemetry: Telemetry) -> tuple[int, int]:
    """Bytes held for one open stream: after its first chunk, and near its end."""
    client = wire.chat_client(wire.chat_stream(CHUNKS))

    def begin() -> Iterator[Any]:
        stream = client.chat.completions.create(
            model=wire.MODEL, messages=wire.messages(), stream=True, stream_options={"include_usage": True}
        )
        next(stream)
        return stream

    list(begin())
    telemetry.flush()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    streams = [begin() for _ in range(STREAMS)]
    gc.collect()
    early = tracemalloc.get_traced_memory()[0] - before
    for stream in streams:
        for _ in range(CHUNKS - 10):
            next(stream)
    gc.collect()
    late = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for stream in streams:
        list(stream)
    return early // STREAMS, late // STREAMS


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def many(calls: int, telemetry: Telemetry) -> dict[str, int]:
    """What fifty thousand calls leave behind: samples after a fifth of them and at the end."""
    run = wire.chat()

    def part(count: int) -> tuple[int, int]:
        for number in range(count // 100):
            with attribute(tenant=f"tenant-{number % TENANTS}", feature="search"):
                run(100)
        telemetry.flush()
        gc.collect()
        return sys.getallocatedblocks(), resident()

    with installed("ours", environment.settings().semconv):
        blocks, size = part(calls // 5)
        blocks_after, size_after = part(calls - calls // 5)
    return {"calls": calls, "blocks": blocks_after - blocks, "resident": size_after - size}


def main() -> None:
    telemetry = Telemetry()
    generation = environment.settings().semconv
    chat, stream = wire.chat(), wire.streamed(wire.CHUNKS)
    report: dict[str, Any] = {"call": {}, "stream": {}, "open": {}, "near_end": {}}
    for name in ("bare", "floor", "ours"):
        with installed(name, generation):
            chat(20)
            stream(20)
            report["call"][name] = peak_of_call(chat)
            report["stream"][name] = peak_of_call(stream)
            report["open"][name], report["near_end"][name] = open_streams(telemetry)
    report["many"] = many(int(sys.argv[1]), telemetry)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
