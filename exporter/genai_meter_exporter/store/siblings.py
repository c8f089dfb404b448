"""Records without a response id and without a span above or below: when they are one call all the same.

Who sees every call of a client library (our plug-in; the Anthropic SDK of itself) sees each call that an
instrumentation of that library tells of. So a record of such an instrumentation is never of a further call: it is
paired, one to one, with a charge of who sees all, that cannot be told from it: in the same process and trace, under
the same span, at the same time, with equal operation, model and usage. Of two calls that look alike, either may be
taken; two charges remain. Beside our plug-in, whose usage is what is charged, the usage of the other need not be equal:
Cohere bills less than some tell, and some tell nothing of a stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from genai_meter_exporter.normalise.record import OWN_PRODUCER

RULE: Final = "sibling"

_ANTHROPIC: Final = "com.anthropic.sdk."
_OURS: Final = frozenset(
    {"anthropic", "bedrock", "botocore", "cohere", "google_genai", "google_generativeai", "groq", "mistralai", "ollama"}
    | {"openai", "openai_v2"}
)
"""Libraries that we see every call of, as instrumentations name them in their scopes."""


def sees_all(seer: Iterable[str], producers: Iterable[str]) -> bool:
    """One of the first sees every call that any of the second may tell of."""
    if OWN_PRODUCER in seer:
        return we_see_all(seer, producers)
    libraries = {_library(producer) for producer in producers}
    return libraries == {"anthropic"} and any(producer.startswith(_ANTHROPIC) for producer in seer)


def we_see_all(seer: Iterable[str], producers: Iterable[str]) -> bool:
    """The first is our plug-in, in every library that the second are instrumentations of."""
    return OWN_PRODUCER in seer and {_library(producer) for producer in producers} <= _OURS


def _library(producer: str) -> str:
    """`openinference.instrumentation.cohere/span` → `cohere`; of a producer that is no instrumentation, itself."""
    scope = producer.partition("/")[0]
    for start in ("openinference.instrumentation.", "opentelemetry.instrumentation.", "logfire.", "langfuse-sdk."):
        if scope.startswith(start):
            return scope.removeprefix(start).removeprefix("genai.").partition(".")[0]
    return scope
