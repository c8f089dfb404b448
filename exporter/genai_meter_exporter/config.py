"""The exporter's configuration: one YAML file, every key here. The table in docs/exporter.md is made from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml
from genai_meter import schema
from genai_meter.environment import clean
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from genai_meter_exporter import places, series
from genai_meter_exporter.access.settings import Access, Tls
from genai_meter_exporter.alerting import Alerts
from genai_meter_exporter.anomalies.model import Anomalies
from genai_meter_exporter.budgets.model import Budgets
from genai_meter_exporter.digest.settings import Digest
from genai_meter_exporter.section import Section as _Section
from genai_meter_exporter.telemetry_settings import Telemetry


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, line and field and says what to do."""


class Listen(_Section):
    """Where the exporter listens. Port 0 takes any free one and prints it."""

    host: str = "127.0.0.1"
    """Address of all three listeners. Anything but loopback opens them to the network: give them `tls` and \
`access.tokens` (`genai-meter config check` warns)."""

    grpc_port: int = Field(default=4327, ge=0, le=65535)
    """OTLP/gRPC. Ten above a collector's own 4317, so that both live on one host."""

    http_port: int = Field(default=4328, ge=0, le=65535)
    """OTLP/HTTP: protobuf and JSON, gzip and deflate."""

    metrics_port: int = Field(default=4329, ge=0, le=65535)
    """`/metrics`, the read API, `/healthz`, `/readyz`."""


_STORES: Final = ("postgresql://", "postgres://", "clickhouse://", "clickhouses://", "chdb:")


class StoreSection(_Section):
    """The ledger."""

    path: str = "ledger.db"
    """The SQLite file; relative to the data directory."""

    url: str | None = None
    """`postgresql://user@host/database` or `clickhouse://user@host:8123/database` (`clickhouses://` for TLS): several \
exporters, one ledger (docs/stores.md). Without it, the SQLite file. A password belongs into `PGPASSWORD`, a password \
file, or `CLICKHOUSE_PASSWORD`."""

    instance: str | None = None
    """Name of this exporter among those that share a database: its counters are its own share. Stable across \
restarts; without it, the name of the host."""

    retention_days: PositiveInt | None = None
    """Calls that are older are removed, a day at a time; their roll-ups stay. Without it, all are kept."""

    calendar: str | None = None
    """ClickHouse: the `instance` that removes old calls for all. Without it, each exporter does; name one."""

    journal_days: PositiveInt | None = None
    """ClickHouse: how long an exporter keeps calls in its own journal (`path`) too. A call that comes later than that \
goes to the quarantine. Without it, `retention_days`."""

    move_seconds: PositiveFloat = 2.0
    """ClickHouse: how often rows are moved there from the journal."""

    move_rows: PositiveInt = 50_000
    """ClickHouse: rows of one insert at most."""

    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """`FULL` syncs each commit before it is acknowledged. `NORMAL` is faster and survives a crash of the exporter, \
but a power failure or a crash of the machine may lose events that were already acknowledged."""

    busy_seconds: PositiveFloat = 5.0
    """How long a commit waits for another process that has locked the file before producers are told to send again."""

    quarantine_rows: PositiveInt = 10_000
    """Distinct records kept in the quarantine; the oldest make room. All are counted."""

    @field_validator("url")
    @classmethod
    def _url_known(cls, given: str | None) -> str | None:
        if given is not None and not given.startswith(_STORES):
            raise ValueError(
                f"a store is at {', '.join(f'{name}…' for name in _STORES[:-1])} or, without url, in a file"
            )
        return given


class Linking(_Section):
    """Records of several producers about one call."""

    window_seconds: PositiveFloat = 600.0
    """How long a call waits for another producer's record of itself. Within it, records that share a response id \
(or lie above each other in one trace) with equal model and usage are one call. Memory: about 1 kB a call."""


class Labels(_Section):
    """Bounds on metric labels. What is folded into `other` keeps its place in the ledger and in the totals."""

    limit: PositiveInt = 200
    """Values with series of their own, for every label that `limits` does not name."""

    limits: dict[str, PositiveInt] = Field(default_factory=lambda: {"tenant": 500, "workflow": 500})
    """Label → values with series of their own. The first ones seen; reviewed hourly: those with the highest cost."""

    series_per_family: PositiveInt = 10_000
    """Label sets of one metric; everything beyond is counted under `other` in all its labels."""

    series_limits: dict[str, PositiveInt] = Field(default_factory=dict[str, PositiveInt])
    """Metric (without prefix and `_total`: `cost_usd`, `tokens` …) → label sets, for those that need another bound."""

    @field_validator("limits")
    @classmethod
    def _limits_known(cls, given: dict[str, PositiveInt]) -> dict[str, PositiveInt]:
        _known_fields(given, sorted({label for labels in series.LABELS.values() for label in labels}), empty=True)
        return given

    @field_validator("series_limits")
    @classmethod
    def _series_known(cls, given: dict[str, PositiveInt]) -> dict[str, PositiveInt]:
        _known_fields(given, sorted(series.LABELS), empty=True)
        return given


class Metrics(_Section):
    """What `/metrics` shows."""

    scrape_interval_seconds: PositiveFloat = 15.0
    """A new series is shown at zero for this long before its first value, so that `increase()` sees it. \
Set it to the longest scrape interval of your Prometheus servers."""


class Prices(_Section):
    """Prices beside the book in the wheel."""

    overlay: str | None = None
    """Compiled overlay (JSON, from `genai-meter prices compile`); relative to this file."""


_MATCHED: Final = (
    "service",
    "environment",
    "api_key",
    "account",
    "route",
    "provider",
    "host",
    "deployment",
    "model",
    "operation",
    "workflow",
    "agent",
)
"""Fields that a rule of attribution may look at."""

_SET: Final = tuple(field.name for field in schema.ATTRIBUTION)


def _known_fields(given: Mapping[str, Any], allowed: Sequence[str], *, empty: bool = False) -> None:
    for name, told in given.items():
        if name not in allowed:
            raise ValueError(f"{name} is no field that can stand here; use one of: {', '.join(allowed)}")
        if told == []:
            raise ValueError(f"{name} has no value; leave it out for all")
    if not given and not empty:
        raise ValueError(f"nothing is given; use some of: {', '.join(allowed)}")


class AttributionRule(_Section):
    """Calls that a rule is for, and who pays for them."""

    match: dict[str, str | list[str]]
    """Field → the value, or several of which one must fit; `*` stands for any text. All fields must fit."""

    set: dict[str, str]
    """Field of attribution → value."""

    override: bool = False
    """Replace what the application said; otherwise only what it left open is filled in."""

    @field_validator("match")
    @classmethod
    def _match_known(cls, given: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        _known_fields(given, _MATCHED)
        return given

    @field_validator("set")
    @classmethod
    def _set_known(cls, given: dict[str, str]) -> dict[str, str]:
        _known_fields(given, _SET)
        return {name: clean(value) for name, value in given.items()}

    @property
    def patterns(self) -> list[tuple[str, list[str]]]:
        """What must fit."""
        return [(name, [told] if isinstance(told, str) else told) for name, told in self.match.items()]


class Attribution(_Section):
    """Who pays, where the application did not say."""

    rules: list[AttributionRule] = Field(default_factory=list[AttributionRule])
    """Rules in order, each `{match: …, set: …, override: …}`; of several that set one field the first that applies \
does."""


class Limits(_Section):
    """Bounds on what producers may send."""

    body_bytes: PositiveInt = 16 * 1024 * 1024
    """One request as sent; larger ones are refused with 413 or RESOURCE_EXHAUSTED."""

    inflated_bytes: PositiveInt = 64 * 1024 * 1024
    """One HTTP request when inflated; over gRPC `body_bytes` bounds both."""

    queue_requests: PositiveInt = 1024
    """Requests under way; beyond it producers are told to send again (429, UNAVAILABLE)."""

    queue_bytes: PositiveInt = 256 * 1024 * 1024
    """Bytes of the requests under way, inflated."""

    connections: PositiveInt = 1000
    """Open connections of one HTTP listener; beyond it, 503."""

    request_seconds: PositiveFloat = 30.0
    """How long the head of an HTTP request, and then its body, may take to arrive; slower ones get 408."""

    group_records: PositiveInt = 8192
    """Records committed together at most, when requests wait for the disk."""

    shutdown_seconds: PositiveInt = 20
    """How long requests under way may take after SIGTERM."""

    @model_validator(mode="after")
    def _queue_holds_one(self) -> Limits:
        for name, size in (("body_bytes", self.body_bytes), ("inflated_bytes", self.inflated_bytes)):
            if self.queue_bytes < size:
                raise ValueError(
                    f"queue_bytes ({self.queue_bytes}) is less than {name} ({size}): "
                    "a request of that size would be told to come again for ever"
                )
        return self


class Config(_Section):
    """The whole file."""

    listen: Listen = Listen()
    """Addresses and ports."""

    store: StoreSection = StoreSection()
    """The ledger."""

    linking: Linking = Linking()
    """Records of several producers about one call."""

    labels: Labels = Labels()
    """Bounds on metric labels."""

    metrics: Metrics = Metrics()
    """What `/metrics` shows."""

    prices: Prices = Prices()
    """Prices beside the book in the wheel."""

    attribution: Attribution = Attribution()
    """Who pays, where the application did not say."""

    tls: Tls = Tls()
    """Encryption of all listeners."""

    access: Access = Access()
    """Who may send and read."""

    telemetry: Telemetry = Telemetry()
    """What the exporter tells of itself."""

    budgets: Budgets = Budgets()
    """Budgets, contracts and caps."""

    digest: Digest = Digest()
    """Daily digests and weekly reviews, by webhook."""

    alerts: Alerts = Alerts()
    """Thresholds of the alert rules."""

    anomalies: Anomalies = Anomalies()
    """What in the ledger is unusual."""

    limits: Limits = Limits()
    """Bounds on what producers may send."""


def load(path: Path | None) -> Config:
    """Read and check a file; without one, the defaults. Raises `ConfigError`."""
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    root: yaml.Node | None = None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: brackets within brackets, too deep to be read") from None
    except ValueError as error:
        # A day that there is not, an integer of thousands of digits.
        raise ConfigError(f"{path}, line {places.odd(root)}: {error}: put it into quotes when it is text") from None
    if data is None:
        return Config()
    if repeated := places.repeated(root):
        raise ConfigError(f"{path}, line {repeated[0]}: {repeated[1]} is there twice; keep one of them")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(path, root, details) for details in error.errors())
        raise ConfigError("\n".join(lines)) from None


def data_directory(chosen: str | None) -> Path:
    """Where the store lives: as chosen, or by the XDG rules."""
    if chosen:
        return Path(chosen)
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "genai-meter"


def overlay(config: Config, file: Path | None) -> Path | None:
    """The overlay that a configuration names, seen from the configuration's own place."""
    if config.prices.overlay is None:
        return None
    return (file.parent if file else Path()) / config.prices.overlay


def store_path(config: Config, chosen: str | None) -> str | Path:
    """The ledger's file, or the URL of its database: where reports are read."""
    return config.store.url or data_directory(chosen) / config.store.path


def written_path(config: Config, chosen: str | None) -> str | Path:
    """What an exporter writes: the same, but with ClickHouse its own journal."""
    url = config.store.url
    return data_directory(chosen) / config.store.path if url is None or is_clickhouse(url) else url


def kept_days(config: Config) -> int | None:
    """How long an exporter keeps calls where it writes them."""
    store = config.store
    return store.journal_days or store.retention_days if is_clickhouse(store.url) else store.retention_days


def is_clickhouse(location: str | Path | None) -> bool:
    """The ledger is ClickHouse's; each exporter writes a journal."""
    return isinstance(location, str) and location.startswith(_STORES[2:])


def _yaml_reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{where}no YAML: {getattr(error, 'problem', None) or error}"


_ALTERNATIVES: Final = frozenset({"str", "int", "float", "list[str]"})
"""What pydantic appends to the place of a value that may be one of several types, once for each."""

_WORDS: Final = {"model_type": "must be keys and values", "recursion_loop": "contains itself"}


def _explain(path: Path, root: yaml.Node | None, details: ErrorDetails) -> str:
    location = [str(part) for part in details["loc"]]
    reason = _WORDS.get(details["type"], details["msg"])
    if len(location) > 1 and location[-1] in _ALTERNATIVES:
        location.pop()
        if details["type"].endswith("_type"):
            reason = "Input should be text or a number, or a list of texts where several may stand"
    if details["input"] is None:
        reason = "nothing is set; leave it out"
    line = places.line_of(root, location)
    field = ".".join(location) or "the file"
    if details["type"] == "extra_forbidden":
        known = _known(location[:-1])
        return f"{path}, line {line}: {field} is unknown; remove it or use one of: {', '.join(known)}"
    return f"{path}, line {line}: {field}: {reason}{_got(location, details['input'])}"


def _got(location: Sequence[str], found: Any) -> str:
    """What stood there: one value. More would repeat half of the file, addresses with secrets in them included."""
    if found is None or isinstance(found, Mapping | list) or (location and location[-1] == "url"):
        return ""
    return f"; got {found!r}"


def lines_of(path: Path, locations: Sequence[Sequence[str]]) -> list[int]:
    """The lines of a file that was read before where these keys are."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return [places.line_of(root, location) for location in locations]


def _known(location: list[str]) -> list[str]:
    model: Any = Config
    for part in location:
        if part.isdecimal():
            (model,) = get_args(model)
        else:
            model = model.model_fields[part].annotation
    return list(model.model_fields)


def reference() -> str:
    """The table of docs/exporter.md."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, section in Config.model_fields.items():
        model: Any = section.annotation
        for key, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            schema = model.model_json_schema()["properties"][key]
            lines.append(f"| `{name}.{key}` | {_type(schema)} | `{_shown(default)}` | {field.description} |")
    return "\n".join(lines) + "\n"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return _type(schema["anyOf"][0])
    names = {"string": "text", "object": "map of text to integer", "array": "list"}
    name: str = schema["type"]
    return names.get(name, name)


def _shown(default: Any) -> str:
    return "none" if default is None else yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()


if __name__ == "__main__":
    print(reference(), end="")
