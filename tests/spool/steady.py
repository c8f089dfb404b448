# pyright: basic, reportMissingImports=false
"""Calls at a steady rate, over a transport in the process: what the caller waits for each is the client and the meter.

`python steady.py <calls a second> <seconds> <file>`: response ids go to the file; when all are made, prints how
long they took, and what the spool counts; then waits for the end of its input.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import count

import httpx2
import openai
from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

numbers = count()


def answer(_request: httpx2.Request) -> httpx2.Response:
    """A new answer each time."""
    told = {
        "object": "chat.completion",
        "id": f"chatcmpl-{sys.argv[3].rpartition('/')[2].partition('.')[0]}-{next(numbers):016d}",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return httpx2.Response(200, headers={"x-request-id": "req-1"}, json=told)


def spool_counts() -> dict[str, int]:
    """`genai_meter.spool.events` by state."""
    reader = InMemoryMetricReader()
    metrics.get_meter_provider().add_metric_reader(reader)
    data = reader.get_metrics_data()
    found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
    points = [p for metric in found if metric.name == "genai_meter.spool.events" for p in metric.data.data_points]
    return {point.attributes["genai_meter.spool.state"]: point.value for point in points}


def main() -> None:
    rate, seconds = int(sys.argv[1]), int(sys.argv[2])
    client = openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
    messages = [{"role": "user", "content": "Is it there?"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    print("ready", flush=True)
    sys.stdin.readline()
    taken = []
    with open(sys.argv[3], "w", encoding="ascii", buffering=1) as journal:
        begun = time.perf_counter()
        for number in range(rate * seconds):
            wait = begun + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            start = time.perf_counter()
            made = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
            taken.append(time.perf_counter() - start)
            journal.write(f"{made.id}\n")
    lasted = time.perf_counter() - begun
    taken.sort()
    quantiles = {f"p{q}": taken[min(len(taken) - 1, len(taken) * q // 1000)] for q in (500, 900, 990, 999)}
    print(json.dumps({"calls": len(taken), "seconds": lasted, **quantiles, "spool": spool_counts()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
