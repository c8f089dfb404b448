"""Configuration of the application half: the `GENAI_METER_*` variables, as data, read once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import unquote

from genai_meter import schema
from genai_meter.safety import logger

PREFIX: Final = "GENAI_METER_"

Semconv: TypeAlias = Literal["both", "latest", "legacy"]
"""Which generation of the GenAI metrics is emitted."""

MAX_VALUE: Final = 256
"""Longest attribution value, in characters; longer ones are cut."""

_CONTROL: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")


class HashKey(NamedTuple):
    """One shared secret and the name under which its fingerprints are known."""

    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"HashKey({self.key_id!r})"


def clean(value: object) -> str:
    """An attribution value as text: control characters become spaces, at most 256 characters."""
    text = value if type(value) is str else str(value)
    if len(text) > MAX_VALUE:
        text = text[:MAX_VALUE]
    if not text.isprintable():
        text = text.translate(_CONTROL)
        # Lone surrogates cannot be encoded for OTLP or baggage.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.strip()


def _flag(text: str) -> bool:
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def _semconv(text: str) -> Semconv:
    for choice in get_args(Semconv):
        if choice == text.lower():
            return choice
    raise ValueError("both, latest or legacy")


def _text(text: str) -> str:
    return clean(text)


def _path(text: str) -> str:
    return text


def _fields(text: str) -> tuple[str, ...]:
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    allowed = {f.name for f in schema.ATTRIBUTION if f.baggage}
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise ValueError(f"field names of attribution; unknown: {', '.join(sorted(unknown))}")
    return names


_HOST: Final = r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?"
_PROVIDER: Final = r"[a-z0-9][a-z0-9._-]{0,63}"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name or equals:
            yield name, value


def _providers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for host, provider in _pairs(text):
        if not (re.fullmatch(_HOST, host) and re.fullmatch(_PROVIDER, provider)):
            raise ValueError("<host>[:<port>]=<provider>, the provider in small letters, digits, . _ and -")
        found[host.lower().lstrip(".")] = provider
    return found


def _deployments(text: str) -> dict[str, str]:
    found = dict(_pairs(text))
    if not all(name and model for name, model in found.items()):
        raise ValueError("<deployment>=<model> or <host>/<deployment>=<model>")
    return found


def _hash_keys(text: str) -> tuple[HashKey, ...]:
    keys: list[HashKey] = []
    for part in text.split(","):
        key_id, colon, secret = part.strip().rpartition(":")
        if not colon:
            key_id = "0"
        if not (key_id.replace("-", "").replace("_", "").isalnum() and key_id.isascii() and len(key_id) <= 16):
            raise ValueError("<key id>:<secret>, the key id of at most 16 letters, digits, - and _")
        if len(secret) < 16:
            raise ValueError("secrets of at least 16 characters")
        keys.append(HashKey(key_id, secret.encode()))
    if len({key.key_id for key in keys}) != len(keys):
        raise ValueError("key ids that differ")
    return tuple(keys)


_UNITS: Final = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*(|KiB|MiB|GiB)", text, re.IGNORECASE)
    if found is None or not int(found[1]):
        raise ValueError("a number of bytes: 500000, 64MiB, 2GiB")
    return int(found[1]) * _UNITS[found[2].lower()]


class Headers(dict[str, str]):
    """HTTP headers; what prints them shows no values."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


def header_pairs(text: str) -> Headers:
    """Headers as OpenTelemetry's variables have them: `<name>=<value>,…`, percent-encoded."""
    found = Headers((unquote(name).lower(), unquote(value)) for name, value in _pairs(text))
    if not all(
        re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) and value.isprintable() for name, value in found.items()
    ):
        raise ValueError("<name>=<value>, separated by commas")
    return found


class Variable(NamedTuple):
    """One `GENAI_METER_*` variable."""

    setting: str
    """Field of `Settings`; the variable is its name in capitals behind the prefix."""
    default: str
    """As one would write it; empty is unset."""
    parse: Callable[[str], Any]
    """Raises ValueError with what would have been right."""
    doc: str

    @property
    def name(self) -> str:
        """The environment variable."""
        return PREFIX + self.setting.upper()


DEFAULT_FIELDS: Final = (
    "tenant",
    "tenant_segment",
    "team",
    "project",
    "feature",
    "route",
    "owner",
    "priority",
    "criticality",
    "workflow",
    "run_id",
    "parent_run_id",
    "step",
    "agent",
    "experiment",
    "variant",
    "release",
)
"""Fields of attribution that may have a default for the whole process."""

SWITCHES: Final = (
    Variable("disabled", "false", _flag, "`true` leaves every client library alone."),
    Variable(
        "semconv",
        "both",
        _semconv,
        "Generation of the GenAI metrics: `latest` (`gen_ai.client.inference.*`), `legacy` "
        "(`gen_ai.client.token.usage`, `gen_ai.client.operation.duration`) or `both`.",
    ),
    Variable(
        "inject_usage",
        "true",
        _flag,
        "Ask OpenAI-compatible chat streams for their usage (`stream_options.include_usage`) and hide the extra "
        "chunk from a caller who did not ask for it.",
    ),
    Variable(
        "baggage",
        "",
        _fields,
        "Fields of attribution that travel in W3C baggage, out and in: `tenant,feature`. Baggage goes to every "
        "service an instrumented HTTP client calls, providers included.",
    ),
    Variable(
        "baggage_in", "", _fields, "Fields read from received baggage, when that differs from `GENAI_METER_BAGGAGE`."
    ),
    Variable("baggage_out", "", _fields, "Fields written to baggage, when that differs from `GENAI_METER_BAGGAGE`."),
    Variable(
        "hash_key",
        "",
        _hash_keys,
        "Shared secret for HMAC fingerprints, `<key id>:<secret>`, the secret of at least 16 characters. Several, "
        "separated by commas, while a key is rotated: the first one signs.",
    ),
    Variable("hash_user", "false", _flag, "`true` replaces user ids by their HMAC; without a key they are dropped."),
    Variable("request_hash", "false", _flag, "`true` adds keyed hashes of the system prompt and of the request."),
    Variable(
        "tiktoken",
        "false",
        _flag,
        "`true` estimates the input of OpenAI models with `tiktoken`, where it is installed and its encoding is "
        "in its cache (nothing is downloaded). Costs the caller's thread the tokenizing of every prompt.",
    ),
    Variable(
        "providers",
        "",
        _providers,
        "Who is paid behind hosts that are not known by themselves: `llm.internal=vllm,localhost:8000=llama.cpp`. A "
        "host stands for those below it, too, and comes before the table of the package.",
    ),
    Variable(
        "deployments",
        "",
        _deployments,
        "Model behind a deployment whose name is no model, where the answer does not name one: "
        "`chat-prod=gpt-4.1-mini`, or `myresource.openai.azure.com/chat-prod=gpt-4.1-mini` for one host only.",
    ),
    Variable("price_book", "", _path, "Price book to use instead of the one in the package: JSON, plain or gzipped."),
    Variable("price_overlay", "", _path, "Price overlay, as compiled by `genai-meter prices compile`."),
    Variable(
        "spool_dir",
        "",
        _path,
        "Directory on a local disk where every event is written before the caller has the answer, and from which it is "
        "shipped in the background ([spool.md](spool.md)).",
    ),
    Variable(
        "spool_max_bytes",
        "1GiB",
        _bytes,
        "Bound of that directory, of all processes together. When it is reached, the newest events are given up and "
        "counted.",
    ),
    Variable(
        "spool_endpoint",
        "",
        _path,
        "OTLP/HTTP address that the spool is shipped to: our exporter, or a collector with a persistent queue. Unset: "
        "OpenTelemetry's own, when its protocol is `http/…`; without any `http://localhost:4328`.",
    ),
    Variable(
        "spool_headers",
        "",
        header_pairs,
        "Headers for it, `authorization=Bearer%20<token>`. `OTEL_EXPORTER_OTLP_HEADERS` go only to OpenTelemetry's "
        "address.",
    ),
)

VARIABLES: Final = SWITCHES + tuple(
    Variable(name, "", _text, f"Default of `{name}`: {schema.BY_NAME[name].doc.lower()}.") for name in DEFAULT_FIELDS
)
"""Every variable, once; docs/configuration.md is this table."""


_NOTHING: Final[Mapping[str, str]] = {}


class Settings(NamedTuple):
    """What the variables say."""

    disabled: bool = False
    semconv: Semconv = "both"
    inject_usage: bool = True
    baggage_in: tuple[str, ...] = ()
    baggage_out: tuple[str, ...] = ()
    hash_keys: tuple[HashKey, ...] = ()
    """The first one signs."""
    hash_user: bool = False
    request_hash: bool = False
    tiktoken: bool = False
    providers: Mapping[str, str] = _NOTHING
    """Host, or host and port, in small letters → provider."""
    deployments: Mapping[str, str] = _NOTHING
    """Deployment, alone or behind its host → model."""
    price_book: str | None = None
    price_overlay: str | None = None
    spool_dir: str | None = None
    spool_max_bytes: int = 1 << 30
    spool_endpoint: str | None = None
    spool_headers: Mapping[str, str] = _NOTHING
    attribution: Mapping[str, str] = _NOTHING
    """Defaults of attribution: from the variables, then from `OTEL_RESOURCE_ATTRIBUTES`."""


def model_behind(host: str, deployment: str | None) -> str | None:
    """The model that is configured for a deployment; None when it is not, or the name is a model's own."""
    known = settings().deployments
    if not known or deployment is None:
        return None
    return known.get(f"{host}/{deployment}") or known.get(deployment)


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. A wrong value is named in one log line and its default used."""
    values: dict[str, Any] = {}
    for variable in VARIABLES:
        text = environ.get(variable.name, "").strip()
        if not text:
            continue
        try:
            values[variable.setting] = variable.parse(text)
        except ValueError as error:
            # The value itself may be a secret.
            logger.warning(
                "%s: wrong value, expected %s; using the default %s",
                variable.name,
                error,
                variable.default or "(unset)",
            )
    _name_misspelt(environ)
    for needs_key in ("hash_user", "request_hash"):
        if values.get(needs_key) and "hash_key" not in values:
            logger.warning("%s%s needs GENAI_METER_HASH_KEY; nothing is hashed", PREFIX, needs_key.upper())
    both: tuple[str, ...] = values.pop("baggage", ())
    attribution = _resource_attribution(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    attribution.update((name, values.pop(name)) for name in DEFAULT_FIELDS if values.get(name))
    return Settings(
        baggage_in=values.pop("baggage_in", both),
        baggage_out=values.pop("baggage_out", both),
        hash_keys=values.pop("hash_key", ()),
        attribution=attribution,
        **values,
    )


def _name_misspelt(environ: Mapping[str, str]) -> None:
    """Name variables that look like ours but are not."""
    known = {variable.name for variable in VARIABLES}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            import difflib  # only for a variable that is not ours

            closest = difflib.get_close_matches(name, known, 1, 0.9)
            if closest:
                logger.warning("%s is unknown and ignored; did you mean %s?", name, closest[0])


def _resource_attribution(text: str) -> dict[str, str]:
    """Fields of attribution in `OTEL_RESOURCE_ATTRIBUTES` (`genai_meter.team=search,…`)."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        attribute, equals, value = pair.partition("=")
        known = schema.BY_ATTRIBUTE.get(attribute.strip())
        if equals and known is not None and known.group == "attribution":
            found[known.name] = clean(unquote(value.strip()))
    return found


_settings: Settings | None = None


def settings() -> Settings:
    """The settings of this process, read from the environment on first use."""
    global _settings
    if _settings is None:
        _settings = read(os.environ)
    return _settings


def reload() -> Settings:
    """Read the environment again."""
    global _settings
    _settings = None
    return settings()


def table() -> str:
    """The variables as a Markdown table."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else ""
        lines.append(f"| `{variable.name}` | {default} | {variable.doc} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
