"""The dashboards "LLM ledger": what has too many values for Prometheus, read from PostgreSQL or ClickHouse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.pages import Page
from dashboards.panels import Column, Panel, Row
from dashboards.queries import CLICKHOUSE, POSTGRESQL, Engine, Query

NOBODY: Final = "No call in this time range names one: applications tell it with `attribute(...)`."


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database says it."""

    engine: Engine
    name: str
    calls: str
    """The calls."""
    outcomes: str
    within: str
    """Condition on a column of Unix nanoseconds."""
    quantile: str
    """Of a share and a column."""
    seconds: str
    """Unix nanoseconds as a time of Grafana."""

    def during(self, column: str) -> str:
        """In the time range."""
        return self.within.format(column=column)


DIALECTS: Final = (
    Dialect(
        POSTGRESQL,
        "PostgreSQL",
        "usage",
        "outcome",
        '"{column}" BETWEEN $__unixEpochNanoFrom() AND $__unixEpochNanoTo()',
        "percentile_cont({share}) WITHIN GROUP (ORDER BY {column})",
        "to_timestamp({column} / 1e9)",
    ),
    Dialect(
        CLICKHOUSE,
        "ClickHouse",
        "call FINAL",
        "outcome FINAL",
        '"{column}" BETWEEN toInt64(toUnixTimestamp($__fromTime)) * 1000000000'
        " AND toInt64(toUnixTimestamp($__toTime)) * 1000000000",
        "quantileExact({share})({column})",
        "fromUnixTimestamp64Nano({column})",
    ),
)

COST: Final = "sum(cost) / 1e12 AS cost_usd"
EACH: Final = "sum(cost) / 1e12 / count(*) AS cost_per_call"
TOKENS: Final = "COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0)"

MONEY: Final = Column("cost_usd", "Spend", "currencyUSD", 130, 2)
CALLS: Final = Column("calls", "Calls", "short", 100, 0)
PER_CALL: Final = Column("cost_per_call", "Cost per call", "currencyUSD", 130, 4)


def _grouped(
    dialect: Dialect, names: tuple[str, ...], more: tuple[str, ...], where: str, order: str = "cost_usd"
) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    figures = ", ".join(("count(*) AS calls", COST, *more))
    return (
        f"SELECT {quoted}, {figures} FROM {dialect.calls} WHERE {dialect.during('start')} AND {where} "
        f"GROUP BY {quoted} ORDER BY {order} DESC NULLS LAST LIMIT 50"
    )


def _quantiles(dialect: Dialect) -> tuple[str, ...]:
    return tuple(f"{dialect.quantile.format(share=share / 100, column=TOKENS)} AS p{share}" for share in (50, 95, 99))


def _experiments(dialect: Dialect) -> str:
    """Cost beside success: an outcome counts for the variant that it names."""
    calls = (
        "SELECT COALESCE(experiment, '') AS experiment, variant, count(*) AS calls, sum(cost) / 1e12 AS cost_usd, "
        f"{', '.join(_quantiles(dialect))} FROM {dialect.calls} "
        f"WHERE {dialect.during('start')} AND variant IS NOT NULL GROUP BY 1, 2"
    )
    goals = (
        "SELECT COALESCE(experiment, '') AS experiment, variant, count(*) AS outcomes, sum(success) AS successes "
        f"FROM {dialect.outcomes} WHERE {dialect.during('time_ns')} AND variant IS NOT NULL GROUP BY 1, 2"
    )
    return (
        f"SELECT c.experiment AS experiment, c.variant AS variant, c.calls AS calls, c.cost_usd AS cost_usd, "
        "c.cost_usd / c.calls AS cost_per_call, c.p50 AS p50, c.p95 AS p95, c.p99 AS p99, o.outcomes AS outcomes, "
        "o.successes * 1.0 / NULLIF(o.outcomes, 0) AS success_rate, "
        "c.cost_usd / NULLIF(o.successes, 0) AS cost_per_success "
        f"FROM ({calls}) AS c LEFT JOIN ({goals}) AS o ON o.experiment = c.experiment AND o.variant = c.variant "
        "ORDER BY cost_usd DESC NULLS LAST LIMIT 50"
    )


SIZES: Final = tuple(
    Column(f"p{share}", name, "short", 100, 0) for share, name in ((50, "Median tokens"), (95, "p95"), (99, "p99"))
)


def _table(
    title: str, description: str, sql: str, columns: list[Column], width: int = 24, empty: str = NOBODY
) -> Panel:
    return Panel(
        title,
        description,
        "table",
        "short",
        [Query(sql)],
        empty,
        width=width,
        height=9,
        columns=columns,
        sort_by="Spend",
    )


def _product(dialect: Dialect) -> Row:
    return Row(
        "Experiments, prompts, releases",
        [
            _table(
                "Experiment variants",
                "Cost beside success of each variant; tokens are input and output of one call.",
                _experiments(dialect),
                [
                    Column("experiment", "Experiment"),
                    Column("variant", "Variant"),
                    MONEY,
                    CALLS,
                    PER_CALL,
                    *SIZES,
                    Column("outcomes", "Outcomes", "short", 100, 0),
                    Column("success_rate", "Success rate", "percentunit", 110, 0),
                    Column("cost_per_success", "Cost per success", "currencyUSD", 140, 4),
                ],
            ),
            _table(
                "Prompt versions",
                "What each version of a prompt costs a call, and how long it is.",
                _grouped(
                    dialect, ("prompt_name", "prompt_version"), (EACH, *_quantiles(dialect)), "prompt_name IS NOT NULL"
                ),
                [Column("prompt_name", "Prompt"), Column("prompt_version", "Version"), MONEY, CALLS, PER_CALL, *SIZES],
                width=12,
            ),
            _table(
                "Releases",
                "Of each service, with the first call that was seen in the time range.",
                _grouped(
                    dialect,
                    ("service", "version"),
                    (EACH, f"{dialect.seconds.format(column='min(start)')} AS first_call"),
                    "version IS NOT NULL",
                ),
                [
                    Column("service", "Service"),
                    Column("version", "Release"),
                    Column("first_call", "First call", "dateTimeAsIso", 170),
                    MONEY,
                    CALLS,
                    PER_CALL,
                ],
                width=12,
            ),
        ],
    )


def _who(dialect: Dialect) -> Row:
    def dearest(title: str, names: dict[str, str], where: str, description: str) -> Panel:
        columns = [*(Column(name, shown) for name, shown in names.items()), MONEY, CALLS, PER_CALL]
        return _table(title, description, _grouped(dialect, tuple(names), (EACH,), where), columns, width=12)

    return Row(
        "The dearest fifty",
        [
            dearest(
                "Runs of workflows",
                {"workflow": "Workflow", "run_id": "Run"},
                "run_id IS NOT NULL",
                "One run far above the others is a loop.",
            ),
            dearest(
                "Conversations",
                {"feature": "Feature", "conversation_id": "Conversation"},
                "conversation_id IS NOT NULL",
                "Long conversations send their whole history with every call.",
            ),
            dearest(
                "Users",
                {"tenant": "Tenant", "user": "User"},
                '"user" IS NOT NULL',
                "Hashed, when the application is configured so.",
            ),
            dearest(
                "API keys",
                {"provider": "Provider", "api_key": "Fingerprint"},
                "api_key IS NOT NULL",
                "By the HMAC fingerprint of the key.",
            ),
        ],
    )


def _errors(dialect: Dialect) -> Row:
    return Row(
        "Errors",
        [
            _table(
                "Errors by type",
                "Calls that ended in an error; what they cost is what the provider billed all the same.",
                _grouped(dialect, ("provider", "model", "error_type"), (), "error_type IS NOT NULL", "calls"),
                [
                    Column("provider", "Provider"),
                    Column("model", "Model"),
                    Column("error_type", "Error"),
                    CALLS,
                    MONEY,
                ],
                empty="No call ended in an error in this time range.",
            )
        ],
    )


def _page(dialect: Dialect) -> Page:
    name = dialect.name.lower()
    return Page(
        uid=f"genai-meter-ledger-{name}",
        file=f"llm-ledger-{name}.json",
        title=f"LLM ledger ({dialect.name})",
        description="Experiments, prompts, releases, runs, users and keys, read from the ledger.",
        rows=[_product(dialect), _who(dialect), _errors(dialect)],
        since="now-7d",
        engine=dialect.engine,
    )


PAGES: Final = tuple(_page(dialect) for dialect in DIALECTS)
