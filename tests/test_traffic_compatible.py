"""Recorded traffic of everybody who is called by OpenAI's format, and of the clients that are made for one of them."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from prices_kit import SURE

from tests.environments import CLIENTS
from tests.traffic.runner import run

PROVIDERS = "azure.ai.openai,deepseek,groq,huggingface,ollama,openrouter,other,perplexity,together,x_ai"
NOT_DRIVEN = {
    ("huggingface", "the library no longer sends to /pipeline"): 2,
    ("other", "a gateway's path for a library of another provider"): 3,
    ("other", "aleph_alpha has a client of its own, or none; not metered"): 1,
    ("other", "aws.sagemaker has a client of its own, or none; not metered"): 1,
    ("other", "deepgram has a client of its own, or none; not metered"): 4,
    ("other", "ibm.watsonx.ai has a client of its own, or none; not metered"): 2,
    ("other", "replicate has a client of its own, or none; not metered"): 5,
    ("other", "writer has a client of its own, or none; not metered"): 6,
    ("x_ai", "speech to text of x_ai: no client has a method for it"): 2,
}
"""Of the part of the traffic that is for development."""


@pytest.mark.timeout(1200)
def test_all_recorded_traffic_of_compatible_providers(
    traffic: Path, record_property: Callable[[str, object], None]
) -> None:
    try:
        CLIENTS.python()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment {CLIENTS.name} cannot be made here: {error}")
    report = run(traffic, forms="sync,hidden", providers=PROVIDERS)
    record_property("table", report.text())
    assert report.good, report.text()
    skipped = Counter((v.exchange.provider, v.skipped) for v in report.verdicts if v.skipped and v.form == "sync")
    assert skipped == NOT_DRIVEN
    driven = [verdict for verdict in report.verdicts if verdict.skipped is None]
    # Everything else that differs contradicts itself in the recording; `known` says how.
    assert Counter(problem for verdict in driven for problem in verdict.known) == {"usage": 23, "values": 2}
    assert sum(verdict.usage_known for verdict in driven) > 400
    hosts = {(v.exchange.host, v.price) for v in driven if v.exchange.provider in ("groq", "deepseek", "together")}
    assert ("api.groq.com", SURE) in hosts
    assert ("api.deepseek.com", SURE) in hosts
