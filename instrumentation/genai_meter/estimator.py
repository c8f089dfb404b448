"""Tokens from characters: learned from the calls whose usage the provider counted, used where none came.

Each model has a line `tokens = slope × size + base`, one for every number of tools it is offered, since an
application sends the same tools, framing and schemas again and again: they are the base. It starts at what is
typical of the tokenizer and is fitted to relative errors, so that one long document does not outweigh a day.
Characters are counted, never kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from genai_meter import semconv

if TYPE_CHECKING:
    from genai_meter.call import Call
    from genai_meter.settle import Outcome

Key: TypeAlias = tuple[str, str | None, int, str]
"""Provider, requested model, tools offered, unit of the size (`chars`, `tokens`, or `output` of the answer)."""

_MAX_LINES: Final = 1024
"""Beyond them, models share a line with their family."""
_MAX_OBSERVED: Final = 500
"""Series of the metric: a caller may use any number of model names."""
_CHARS_PER_MESSAGE: Final = 16
"""What a chat format writes around one more message."""
_TOKENS_PER_MESSAGE: Final = 4
_CHARS_PER_TOOL_CALL: Final = 40
"""Name and framing of a tool call in an answer; its arguments are counted."""

_SLOPE_PULL: Final = 10.0
_BASE_PULL: Final = 0.5
"""How much the prior of the base weighs, in calls like those that were seen."""
_LOWEST_SLOPE: Final = 0.1
_HIGHEST_SLOPE: Final = 2.0
_ALL_OF_THE_FIRST: Final = 64
_ONE_IN: Final = 7
"""What a busy line learns from: an application repeats itself, and learning costs more than estimating."""
_FORGET_AFTER: Final = 256
"""Calls learned after which they count half."""


class Family(NamedTuple):
    """What is typical of a tokenizer, fitted to recorded traffic."""

    names: tuple[str, ...]
    """Parts of model names, the first that is found decides."""
    input_chars: float
    """Characters a token in prompts."""
    output_chars: float
    """Characters a token in answers."""
    call: int = 8
    """Input tokens of an empty request."""
    tools: int = 0
    """Further ones when tools are offered."""
    tool: int = 75
    """Further ones for each tool."""


FAMILIES: Final = (
    Family(("claude",), 3.5, 3.9, 9, 420, 120),
    Family(("gpt-oss",), 4.3, 4.6, 66, 20, 75),
    Family(("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt", "o1", "o3", "o4"), 4.2, 4.4),
    Family(("embed",), 4.2, 4.2, 0),
    Family(("gpt-4", "gpt-3.5", "gpt-35"), 4.4, 4.5),
    Family(("gemini", "gemma"), 3.8, 4.5, 1),
    Family(("mistral", "mixtral", "ministral", "codestral", "magistral", "pixtral"), 3.7, 4.4, 5),
    Family(("llama",), 4.2, 4.8, 12, 200, 75),
    Family(("command",), 4.5, 3.9, 2),
    Family(("deepseek", "kimi"), 3.9, 4.4, 6, 150, 75),
    Family(("grok",), 4.5, 4.8, 150, 100, 75),
    Family(("qwen",), 3.8, 4.2, 10, 120, 75),
)
_OTHER: Final = Family((), 4.0, 4.4)


def family_of(model: str | None) -> Family:
    """The family of a model, by its name."""
    name = (model or "").lower()
    return next((family for family in FAMILIES if any(part in name for part in family.names)), _OTHER)


class Line:
    """`tokens = slope × size + base` of one kind of call.

    Updated without a lock: two threads at once may lose one of their calls to the statistics, no more.
    """

    __slots__ = (
        "_n",
        "_prior",
        "_x",
        "_xx",
        "_xy",
        "_y",
        "base",
        "calls",
        "counted",
        "error",
        "estimated",
        "seen",
        "slope",
    )

    def __init__(self, slope: float, base: float) -> None:
        self.slope = slope
        self.base = base
        self._prior = slope, base
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self.seen = 0
        """Calls that were estimated by it, and may have been too many to learn from all."""
        self.calls = 0
        self.estimated = 0
        """Sum of the estimates of calls whose count is known."""
        self.counted = 0
        """Sum of their counts."""
        self.error = 0
        """Sum of the differences, whichever way."""

    def learn(self, size: int, tokens: int, estimate: int) -> None:
        """One more call whose tokens the provider counted."""
        if tokens <= 0:
            return
        self.estimated += estimate
        self.counted += tokens
        self.error += abs(estimate - tokens)
        weight = tokens**-1.5
        weighted = weight * size
        self._n += weight
        self._x += weighted
        self._y += weight * tokens
        self._xx += weighted * size
        self._xy += weighted * tokens
        self.calls += 1
        if self.calls < 16 or not self.calls & 15:
            self._fit()

    def _fit(self) -> None:
        slope, base = self._prior
        pull = _BASE_PULL * self._n / self.calls
        n, xx = self._n + pull, self._xx + _SLOPE_PULL
        y, xy = self._y + pull * base, self._xy + _SLOPE_PULL * slope
        rest = xx * n - self._x * self._x
        fitted = (xy * n - y * self._x) / rest if rest > 0 else slope
        self.slope = min(max(fitted, _LOWEST_SLOPE), _HIGHEST_SLOPE)
        self.base = max((y - self.slope * self._x) / n, 0.0)
        if self.calls >= _FORGET_AFTER:
            self._forget()

    def _forget(self) -> None:
        self._n, self._x, self._y, self._xx, self._xy = (
            part / 2 for part in (self._n, self._x, self._y, self._xx, self._xy)
        )
        self.calls, self.estimated, self.counted, self.error = (
            part // 2 for part in (self.calls, self.estimated, self.counted, self.error)
        )


_lines: dict[Key, Line] = {}


def reset() -> None:
    """Forget everything learned."""
    _lines.clear()


# --- one call -----------------------------------------------------------------------------------------
class Measure(NamedTuple):
    """The sizes of one call, and the lines that say what they are in tokens."""

    input: Line | None
    """None when nothing of the request was measured."""
    given: int
    output: Line | None
    said: int


def estimate(call: Call, outcome: Outcome) -> None:
    """Tokens of a call by the size of its request and of what has come of its answer."""
    prepared, reading = call.prepared, call.reading
    request, provider = prepared.request, prepared.target.provider
    model, messages = request.model, request.message_count
    more = messages - 1 if messages else 0
    if prepared.text_tokens is None:
        unit, size = "chars", sum(request.chars_by_role.values()) + _CHARS_PER_MESSAGE * more
    else:
        unit, size = "tokens", prepared.text_tokens + _TOKENS_PER_MESSAGE * more
    given = said = None
    if size or messages:
        key = (provider, model, request.tool_count or 0, unit)
        given = _lines.get(key) or _new(key)
        outcome.estimated_input = round(given.slope * size + given.base)
    chars = reading.output_chars + _CHARS_PER_TOOL_CALL * reading.tool_call_count
    if chars and outcome.generates:
        key = (provider, model, 0, "output")
        said = _lines.get(key) or _new(key)
        outcome.estimated_output = round(said.slope * chars + said.base)
    line = given or said
    if line is not None:
        line.seen = seen = line.seen + 1
        if seen <= _ALL_OF_THE_FIRST or not seen % _ONE_IN:
            outcome.measure = Measure(given, size, said, chars)


def tokens(provider: str, model: str | None, size: int, unit: str) -> int:
    """Tokens of so many characters of a prompt (`chars`) or of an answer (`output`)."""
    key = (provider, model, 0, unit)
    line = _lines.get(key) or _new(key)
    return round(line.slope * size + line.base) if size else 0


def learn(call: Call, outcome: Outcome, *_told: object) -> None:
    """Learn from a finished call what the provider counted."""
    measure = outcome.measure
    if measure is None or not outcome.exact_input or outcome.others or call.earlier:
        return
    line = measure.input
    # A conversation that the provider keeps is input that was not sent.
    if line is not None and not _kept_by_provider(call.prepared.request):
        line.learn(measure.given, outcome.input_tokens, outcome.estimated_input)
    line = measure.output
    if line is not None and outcome.exact_output:
        line.learn(measure.said, outcome.output_tokens, outcome.estimated_output)


def _kept_by_provider(request: Any) -> bool:
    return request.previous_response_id is not None or request.conversation_id is not None


def _new(key: Key) -> Line:
    _, model, tools, unit = key
    family = family_of(model)
    if len(_lines) >= _MAX_LINES:
        # What is beyond the bound shares a few lines, one for each family.
        key = ("", family.names[0] if family.names else None, min(tools, 1), unit)
        known = _lines.get(key)
        if known is not None:
            return known
    sibling = max(
        (line for other, line in list(_lines.items()) if _alike(other, key)), key=lambda line: line.calls, default=None
    )
    if sibling is not None:
        made = Line(sibling.slope, sibling.base)
    elif unit == "output":
        made = Line(1 / family.output_chars, 2)
    else:
        slope = 1.0 if unit == "tokens" else 1 / family.input_chars
        made = Line(slope, family.call + (family.tools + family.tool * tools if tools else 0))
    return _lines.setdefault(key, made)


def _alike(one: Key, other: Key) -> bool:
    """Of the same model, both with tools or both without."""
    return one[:2] == other[:2] and one[3] == other[3] and bool(one[2]) == bool(other[2])


# --- drift --------------------------------------------------------------------------------------------
class Drift(NamedTuple):
    """How far the estimates of one model were from the provider's counts, lately."""

    calls: int
    ratio: float
    """(estimated - counted) / counted: which way they lean."""
    error: float
    """Sum of the differences over the sum of the counts: how far they are off."""


def drifts() -> Mapping[tuple[str, str | None, str], Drift]:
    """(provider, requested model, `input` or `output`) → drift."""
    sums: dict[tuple[str, str | None, str], list[int]] = {}
    for (provider, model, _, unit), line in list(_lines.items()):
        where = provider, model, "output" if unit == "output" else "input"
        total = sums.setdefault(where, [0, 0, 0, 0])
        for index, part in enumerate((line.calls, line.estimated, line.counted, line.error)):
            total[index] += part
    return {
        where: Drift(calls, (estimated - counted) / counted, error / counted)
        for where, (calls, estimated, counted, error) in sums.items()
        if counted
    }


def observe() -> Iterator[tuple[dict[str, Any], Drift]]:
    """Attributes and drift of the busiest models, for a metric."""
    found = sorted(drifts().items(), key=lambda item: -item[1].calls)
    for (provider, model, direction), drift in found[:_MAX_OBSERVED]:
        attributes = {
            semconv.PROVIDER_NAME: provider,
            semconv.REQUEST_MODEL: model,
            semconv.TOKEN_TYPE: direction,
        }
        yield {name: value for name, value in attributes.items() if value}, drift
