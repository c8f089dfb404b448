"""`genai-meter prices` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from genai_meter.pricing.book import read_book
from genai_meter_exporter.prices import compiler
from prices_kit import ACME, calc, command, shipped

AT = "2026-11-20T12:00:00Z"
BUCKETS: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4.1",
    "at": AT,
    "buckets": {"input": 1000, "output": 100},
}


def test_calc_gives_cost_status_lines_and_book_for_each_line() -> None:
    (result,) = calc([{"id": "a", **BUCKETS}])
    assert result == {
        "id": "a",
        "cost_usd": "0.0028",
        "list_usd": "0.0028",
        "status": "exact",
        "reasons": [],
        "lines": [
            {
                "model": "gpt-4.1",
                "bucket": "input",
                "quantity": 1000,
                "rate": "2",
                "per": 1000000,
                "list_usd": "0.002",
                "cost_usd": "0.002",
                "entries": ["genai:openai/gpt-4.1@input"],
            },
            {
                "model": "gpt-4.1",
                "bucket": "output",
                "quantity": 100,
                "rate": "8",
                "per": 1000000,
                "list_usd": "0.0008",
                "cost_usd": "0.0008",
                "entries": ["genai:openai/gpt-4.1@output"],
            },
        ],
        "book_id": shipped().book_id,
    }


def test_calc_reports_a_bad_line_in_its_place_and_goes_on() -> None:
    lines = [
        json.dumps({"id": "first", **BUCKETS}),
        "no json",
        "[1]",
        json.dumps({"id": "nothing", "provider": "openai", "model": "gpt-4.1"}),
        json.dumps({"id": "flavour", "provider": "openai", "model": "gpt-4.1", "api_flavor": "nonesuch", "raw": {}}),
        json.dumps({"id": "when", **BUCKETS, "at": "yesterday"}),
        json.dumps({"id": "last", **BUCKETS}),
    ]
    done = command("calc", stdin="\n".join(lines) + "\n\n")
    assert done.returncode == 0
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["id"], r.get("cost_usd"), "error" in r) for r in results] == [
        ("first", "0.0028", False),
        (None, None, True),
        (None, None, True),
        ("nothing", None, True),
        ("flavour", None, True),
        ("when", None, True),
        ("last", "0.0028", False),
    ]
    assert (
        results[4]["error"] == "ValueError: unknown api_flavor 'nonesuch'; without one the shape of the answer decides"
    )


def test_calc_keeps_list_and_effective_cost_apart_under_an_overlay(tmp_path: Path) -> None:
    yaml, compiled = tmp_path / "acme.yaml", tmp_path / "acme.json"
    yaml.write_text(ACME)
    assert command("compile", yaml, "-o", compiled).returncode == 0
    by_yaml = calc([{"id": "a", **BUCKETS}], "--overlay", yaml)
    by_json = calc([{"id": "a", **BUCKETS}], "--overlay", compiled)
    assert by_yaml == by_json
    assert (by_json[0]["list_usd"], by_json[0]["cost_usd"]) == ("0.0028", "0.002464")
    assert by_json[0]["lines"][0]["entries"] == ["genai:openai/gpt-4.1@input", "acme-openai-12pct@2026-10-01"]
    sha256 = json.loads(compiled.read_text())["sha256"]
    assert by_json[0]["book_id"] == f"{shipped().book_id}+ov:{sha256[:8]}"


def test_calc_refuses_an_overlay_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    done = command("calc", "--overlay", broken, stdin="")
    assert done.returncode == 2
    assert str(broken) in done.stderr


def test_compile_names_file_line_and_field_and_writes_nothing(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.yaml", tmp_path / "out.json"
    bad.write_text(ACME.replace('"0.88"', "0.88"))
    done = command("compile", bad, "-o", out)
    assert done.returncode == 2
    assert f"{bad}:9: entries[0].multiplier: 0.88 is a floating-point number" in done.stderr
    assert not out.exists()


def test_show_names_rates_tiers_limits_and_source() -> None:
    done = command("show", "gpt-6-sol", "--at", AT)
    assert done.returncode == 0
    shown = done.stdout
    assert shown.startswith("openai  gpt-6-sol  (openai/gpt-6-sol)\n")
    assert "context window 1,050,000" in shown
    assert "    input              $2 / 1,000,000  genai:openai/gpt-6-sol@input\n" in shown
    assert "  more than 272,000 input tokens:\n" in shown
    assert "    output             $15 / 1,000,000  genai:openai/gpt-6-sol@output>272000\n" in shown
    assert "source: genai-prices 0.2.3 (https://developers.openai.com/api/docs/pricing)" in shown


def test_show_at_a_date_and_in_a_context() -> None:
    before = command("show", "gpt-5.6-luna", "--at", "2026-07-29").stdout
    after = command("show", "gpt-5.6-luna", "--at", "2026-07-30").stdout
    assert "input              $1 / 1,000,000" in before
    assert "input              $0.2 / 1,000,000" in after
    flex = command("show", "gpt-5.2", "--at", AT, "--context", "service_tier=flex").stdout
    assert "input              $0.875 / 1,000,000" in flex


def test_show_without_a_price_says_so() -> None:
    done = command("show", "no-such-model", "--provider", "openai")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no price for 'no-such-model' at openai; an overlay can give it one (docs/pricing.md)\n"
    elsewhere = command("show", "gpt-4.1-mini", "--provider", "nobody")
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert elsewhere.stderr == "no price for 'gpt-4.1-mini' at nobody; sold by openai, azure\n"


def test_what_cannot_be_used_is_told_from_what_is_so(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    for arguments in (
        ("show", "gpt-4.1", "--context", "flex"),
        ("show", "gpt-4.1", "--book", absent),
        ("show", "gpt-4.1", "--overlay", absent),
        ("diff", "shipped", absent),
        ("compile", absent),
        ("update", "--from", absent),
    ):
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert str(arguments[-1]) in done.stderr


def _event(**changes: Any) -> str:
    event: dict[str, Any] = {
        "call_id": "0190",
        "provider": "openai",
        "model": "gpt-4.1",
        "start": 1795176000000000000,
        "usage": [{"model": None, "buckets": {"input": 1000, "output": 100}}],
        "cost": 2_800_000_000,
        "book_id": shipped().book_id,
    }
    return json.dumps({**event, **changes})


def test_explain_recomputes_an_event_to_its_price_sources() -> None:
    done = command("explain", "-", stdin=_event())
    assert done.returncode == 0
    assert done.stdout == (
        "call 0190  2026-11-20T12:00:00Z\n"
        "  openai  gpt-4.1\n"
        f"  book {shipped().book_id}, data of 2026-11-10\n"
        "  gpt-4.1  input: 1000 × $2 / 1,000,000 = $0.002\n"
        "      genai:openai/gpt-4.1@input  <- genai-prices 0.2.3 (https://developers.openai.com/api/docs/pricing)\n"
        "  gpt-4.1  output: 100 × $8 / 1,000,000 = $0.0008\n"
        "      genai:openai/gpt-4.1@output  <- genai-prices 0.2.3 (https://developers.openai.com/api/docs/pricing)\n"
        "  list $0.0028, effective $0.0028, status exact\n"
        "  the event says $0.0028: equal\n"
    )


def test_explain_reads_the_attributes_of_the_wire(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(
        json.dumps(
            {
                "attributes": {
                    "genai_meter.call.id": "0191",
                    "gen_ai.provider.name": "anthropic",
                    "gen_ai.response.model": "claude-opus-5-5",
                    "genai_meter.start": 1795176000000000000,
                    "genai_meter.usage.input": 1000,
                    "genai_meter.price.context": '{"inference_geo": "us"}',
                    "genai_meter.cost.effective": 4_000_000_000,
                }
            }
        )
    )
    done = command("explain", event)
    assert "claude-opus-5-5  input: 1000 × $4.4 / 1,000,000 = $0.0044" in done.stdout
    assert "anthropic-us-inference@2026-02-01  <- facts: https://platform.claude.com" in done.stdout
    assert "the event says $0.004: NOT equal" in done.stdout


def test_explain_works_out_the_buckets_that_an_event_leaves_out() -> None:
    counts = {"input_tokens": 1000, "output_tokens": 100, "cache_read.input_tokens": 400, "reasoning.output_tokens": 30}
    attributes = {
        "genai_meter.call.id": "0191",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4.1",
        "genai_meter.start": 1795176000000000000,
        "genai_meter.usage.source": "provider",
        **{f"gen_ai.usage.{name}": count for name, count in counts.items()},
        # 600 at 2, 400 at 0.5, 100 at 8 USD a million.
        "genai_meter.cost.effective": 2_200_000_000,
    }
    done = command("explain", "-", stdin=json.dumps({"attributes": attributes}))
    assert "gpt-4.1  input: 600 × $2 / 1,000,000 = $0.0012" in done.stdout
    assert "gpt-4.1  cache_read: 400 × $0.5 / 1,000,000 = $0.0002" in done.stdout
    assert "the event says $0.0022: equal" in done.stdout


def test_explain_uses_the_book_the_event_was_priced_by(tmp_path: Path) -> None:
    content = compiler.document(_content())
    content["rates"] = [dict.fromkeys(table, "1") for table in content["rates"]]
    old = compiler.serialise(content)
    books = tmp_path / "books"
    books.mkdir()
    (books / "old.json.gz").write_bytes(compiler.pack(old))
    old_id = read_book(books / "old.json.gz").book_id
    env = {"XDG_DATA_HOME": str(tmp_path / "none"), "GENAI_METER_PRICE_BOOK": ""}
    lost = command("explain", _event(book_id=old_id), env=env)
    assert f"priced by {old_id}, which is not here" in lost.stdout
    (tmp_path / "none" / "genai-meter").mkdir(parents=True)
    books.rename(tmp_path / "none" / "genai-meter" / "books")
    found = command("explain", _event(book_id=old_id), env=env)
    assert f"book {old_id}" in found.stdout
    assert "input: 1000 × $1 / 1,000,000 = $0.001" in found.stdout


def _content() -> bytes:
    import zlib

    from genai_meter.pricing.book import SHIPPED

    return zlib.decompress(SHIPPED.read_bytes(), wbits=31)


def test_explain_without_such_an_event_fails_with_a_reason() -> None:
    done = command("explain", "-", stdin="{}")
    assert (done.returncode, done.stderr) == (2, "genai-meter prices explain: the event has no start\n")


def test_diff_names_what_changed(tmp_path: Path) -> None:
    content = compiler.document(_content())
    models: list[Any] = content["providers"]["openai"]["models"]
    (gone,) = [m for m in models if m[0] == "gpt-4.1"]
    content["providers"]["openai"]["models"] = [m for m in models if m[0] != "gpt-4.1"]
    (mini,) = [m for m in models if m[0] == "gpt-4.1-mini"]
    mini[4] = gone[4]
    new = tmp_path / "new.json"
    new.write_bytes(compiler.serialise(content))
    done = command("diff", "shipped", new)
    assert done.returncode == 0
    assert "- openai/gpt-4.1\n" in done.stdout
    assert "~ openai/gpt-4.1-mini  input 0.4 -> 2\n" in done.stdout
    assert command("diff", "shipped", "shipped").stdout == "no difference\n"


def test_update_shows_the_difference_and_activates_only_when_told(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    model = {"id": "gpt-4.1", "match": {"equals": "gpt-4.1"}, "prices": {"input_mtok": "3", "output_mtok": "9"}}
    data.write_text(
        json.dumps([{"id": "openai", "name": "OpenAI", "api_pattern": "https://api\\.openai\\.com", "models": [model]}])
    )
    books = tmp_path / "books"
    arguments = ("update", "--from", data, "--data-date", "2026-11-21", "--dir", books)
    looked = command(*arguments)
    assert looked.returncode == 1
    assert "~ openai/gpt-4.1  input 2 -> 3\n" in looked.stdout
    assert looked.stdout.endswith("nothing activated; say --yes to use these prices\n")
    assert not books.exists()
    done = command(*arguments, "--yes")
    assert done.returncode == 0, done.stderr
    book = read_book(books / "book.json.gz")
    assert (book.base, book.data_date) == ("genai-prices data-2026-11-21", "2026-11-21")
    assert (books / f"{book.sha256[:12]}.json.gz").exists()
    (result,) = calc([{"id": "a", **BUCKETS}], "--book", books / "book.json.gz")
    assert (result["cost_usd"], result["book_id"]) == ("0.0039", book.book_id)


_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[1].split():
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from genai_meter_exporter.cli import main
sys.exit(main(["prices", *sys.argv[2:]]))
"""


def without(packages: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, packages, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_calc_show_and_explain_need_no_package_of_the_exporter() -> None:
    packages = "yaml pydantic orjson grpc rich genai_prices"
    assert json.loads(without(packages, "calc", stdin=json.dumps(BUCKETS)).stdout)["cost_usd"] == "0.0028"
    assert without(packages, "show", "gpt-4.1").returncode == 0
    assert "equal" in without(packages, "explain", "-", stdin=_event()).stdout
    refused = without(packages, "compile", "some.yaml")
    assert refused.returncode == 2
    assert "needs the package 'yaml': pip install 'genai-meter[exporter]'" in refused.stderr


def test_update_names_the_package_that_has_the_data() -> None:
    refused = without("genai_prices", "update")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "this needs the package 'genai_prices': pip install genai-prices\n"
