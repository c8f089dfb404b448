"""`genai-meter prices`: calculate, show, explain, compile, compare and update prices."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genai_meter.pricing import RateCard, names
from genai_meter.pricing.book import SHIPPED, Book, BookError, read_book
from genai_meter.pricing.engine import Resolver
from genai_meter.pricing.overlay import Overlay, OverlayError, read_entries, read_overlay
from genai_meter.pricing.resolver import BOOK_VARIABLE, OVERLAY_VARIABLE

from genai_meter_exporter.display import printable
from genai_meter_exporter.times import at, day

if TYPE_CHECKING:
    from genai_meter_exporter.prices.explain import Event


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their options."""
    commands = parser.add_subparsers(dest="prices", required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--book", metavar="FILE", type=Path, help=f"another book (default: ${BOOK_VARIABLE} or shipped)"
    )
    shared.add_argument(
        "--overlay", metavar="FILE", type=Path, help=f"YAML or compiled overlay (default: ${OVERLAY_VARIABLE})"
    )
    commands.add_parser("calc", parents=[shared], help="price raw answers: JSON lines in, JSON lines out")
    show = commands.add_parser("show", parents=[shared], help="the rates of a model")
    show.add_argument("model", metavar="MODEL")
    show.add_argument("--provider", metavar="P", help="OpenTelemetry or book name (default: by the model's name)")
    show.add_argument("--at", metavar="DATE", type=at, help="ISO date or instant, UTC (default: now)")
    show.add_argument(
        "--context", metavar="K=V", type=_pair, action="append", default=[], help="e.g. service_tier=flex"
    )
    explain = commands.add_parser("explain", parents=[shared], help="one event line by line to its price sources")
    explain.add_argument("event", metavar="EVENT", help="a call id in the ledger, a JSON file, or - for JSON on stdin")
    explain.add_argument("--revision", metavar="N", type=int, help="the price that the call had before (0: its first)")
    explain.add_argument("--config", metavar="FILE", type=Path, help="the exporter's configuration")
    explain.add_argument("--data-dir", metavar="DIR", help="where the ledger lives")
    diff = commands.add_parser("diff", help="what differs between two books")
    diff.add_argument("old", metavar="OLD", help="a book file, or `shipped`")
    diff.add_argument("new", metavar="NEW", help="a book file, or `shipped`")
    update = commands.add_parser("update", help="compile newer prices, show the difference, activate with --yes")
    update.add_argument("--from", dest="data", metavar="FILE", type=Path, help="a genai-prices data.json (v2)")
    update.add_argument(
        "--data-date", metavar="DATE", type=day, help="when the data was right (default: known or file date)"
    )
    update.add_argument("--dir", metavar="DIR", type=Path, help="where books are kept")
    update.add_argument("--yes", action="store_true", help="activate without asking further")
    compile_ = commands.add_parser("compile", help="check overlay YAML and write the JSON that applications read")
    compile_.add_argument("overlays", metavar="OVERLAY", nargs="+", type=Path, help="lowest layer first")
    compile_.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")


def run(options: argparse.Namespace) -> int:
    """Run one action."""
    actions = {
        "calc": _calc,
        "show": _show,
        "explain": _explain,
        "diff": _diff,
        "update": _update,
        "compile": _compile,
    }
    try:
        return actions[options.prices](options)
    except (BookError, OverlayError) as error:
        print(f"genai-meter prices: {error}", file=sys.stderr)
        return 2


def _resolver(options: argparse.Namespace) -> Resolver:
    book_path = options.book or os.environ.get(BOOK_VARIABLE)
    overlay_path = options.overlay or os.environ.get(OVERLAY_VARIABLE)
    book = read_book(Path(book_path)) if book_path else read_book()
    return Resolver(book, _overlay(Path(overlay_path)) if overlay_path else None)


def _overlay(path: Path) -> Overlay:
    if path.suffix.lower() not in (".yaml", ".yml"):
        return read_overlay(path)
    from genai_meter_exporter.prices.overlay_yaml import OverlayInvalid, compile_files

    try:
        document = compile_files([path])
    except (OverlayInvalid, OSError) as error:
        raise OverlayError(str(error)) from None
    return Overlay(read_entries(document["entries"], 1), document["sha256"])


def _calc(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices.calc import calculate

    resolver = _resolver(options)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(calculate(resolver, line)), flush=True)
    return 0


def _show(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices.describe import card_text

    resolver = _resolver(options)
    at_ns = time.time_ns() if options.at is None else options.at
    context = dict(options.context)
    sellers = _providers_of(resolver.book, options.model)
    providers = [options.provider] if options.provider else sellers
    for provider in providers[:1]:
        card = resolver.card(provider, options.model, at_ns, context)
        if isinstance(card, RateCard):
            print("\n".join(card_text(resolver, card)))
            if providers[1:]:
                print(f"  also sold by {', '.join(providers[1:])} (--provider)")
            return 0
    there = f"sold by {', '.join(sellers)}" if sellers else "an overlay can give it one (docs/pricing.md)"
    at_provider = f" at {options.provider}" if options.provider else ""
    print(f"no price for {options.model!r}{at_provider}; {there}", file=sys.stderr)
    return 1


def _pair(told: str) -> tuple[str, str]:
    dimension, equals, value = told.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{told!r}: write it as dimension=value")
    return dimension, value


def _providers_of(book: Book, model: str) -> list[str]:
    """Who sells a model, the one whose naming it follows first."""
    first = book.provider_of(model.lower())
    sellers = [
        provider
        for provider in book.providers
        if any(book.find(provider, candidate.name) for candidate in names.model_candidates(provider, model))
    ]
    return sorted(sellers, key=lambda provider: provider != first)


def _explain(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices import shelf
    from genai_meter_exporter.prices.explain import NoEvent, explain

    try:
        options.overlay = options.overlay or _configured_overlay(options.config)
        resolver = _resolver(options)
        event = _event(options)
    except (NoEvent, ValueError, KeyError, OSError) as error:
        print(f"genai-meter prices explain: {error}", file=sys.stderr)
        return 2
    lines = explain(resolver, event, [SHIPPED, *shelf.archives(shelf.books_directory())])
    print("\n".join(map(printable, lines)))
    return 0


def _configured_overlay(file: Path | None) -> Path | None:
    """The overlay that the exporter prices by."""
    if file is None:
        return None
    from genai_meter_exporter import config as configuration

    try:
        return configuration.overlay(configuration.load(file), file)
    except configuration.ConfigError as error:
        raise ValueError(str(error)) from None


def _event(options: argparse.Namespace) -> Event:
    from genai_meter_exporter.prices.explain import NoEvent, from_row

    name: str = options.event
    if name == "-" or name.lstrip().startswith("{") or Path(name).is_file():
        return _event_in(name)
    try:
        call_id = bytes.fromhex(name.replace("-", ""))
    except ValueError:
        raise NoEvent(f"{name!r} is neither a call id nor a file") from None
    # The ledger belongs to the exporter; its packages are needed for nothing else here.
    from genai_meter_exporter import config as configuration
    from genai_meter_exporter.store import StoreError, open_readonly

    try:
        reader = open_readonly(configuration.store_path(configuration.load(options.config), options.data_dir))
    except (StoreError, configuration.ConfigError) as error:
        raise NoEvent(str(error)) from None
    try:
        row = reader.get(call_id)
        if row is not None and options.revision not in (None, row["revision"]):
            known = {told["revision"]: json.loads(told["price"]) for told in reader.revisions(row["call_id"])}
            if options.revision not in known:
                raise NoEvent(
                    f"call {name} has no revision {options.revision}, only {sorted([*known, row['revision']])}"
                )
            row = {**row, **known[options.revision]}
    except StoreError as error:
        raise NoEvent(str(error)) from None
    finally:
        reader.close()
    if row is None:
        raise NoEvent(f"the ledger has no call {name}")
    return from_row(row)


def _event_in(name: str) -> Event:
    """JSON on stdin, as it is, or in a file."""
    from genai_meter_exporter.prices.explain import NoEvent, from_json

    try:
        if name == "-":
            return from_json(sys.stdin.read())
        return from_json(name if name.lstrip().startswith("{") else Path(name).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NoEvent(f"{'standard input' if name == '-' else name} is no event in JSON: {error}") from None


def _book(name: str) -> Book:
    return read_book() if name == "shipped" else read_book(Path(name))


def _diff(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices.diff import differences

    _print_differences(differences(_book(options.old), _book(options.new)))
    return 0


def _print_differences(lines: Iterable[str]) -> None:
    print("\n".join(lines) or "no difference")


def _update(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices import compiler, shelf, update
    from genai_meter_exporter.prices.diff import differences
    from genai_meter_exporter.prices.overlay_yaml import OverlayInvalid

    in_use = os.environ.get(BOOK_VARIABLE)
    current = read_book(Path(in_use)) if in_use and Path(in_use).exists() else read_book()
    try:
        content = update.compile_newer(options.data, options.data_date.isoformat() if options.data_date else None)
    except (compiler.CompileError, OverlayInvalid, OSError, ValueError) as error:
        print(f"genai-meter prices update: {options.data or 'genai-prices'}: {error}", file=sys.stderr)
        return 2
    book = Book(content)
    print(f"{current.book_id} ({current.data_date}) -> {book.book_id} ({book.data_date})")
    _print_differences(differences(current, book))
    if book.book_id == current.book_id:
        return 0
    if not options.yes:
        print("nothing activated; say --yes to use these prices")
        return 1
    path = update.activate(book, content, options.dir or shelf.books_directory())
    print(f"activated: {path}\napplications and the exporter use it with {BOOK_VARIABLE}={path}")
    return 0


def _compile(options: argparse.Namespace) -> int:
    from genai_meter_exporter.prices.overlay_yaml import OverlayInvalid, compile_files, to_json

    try:
        document = compile_files(options.overlays)
    except OverlayInvalid as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"genai-meter prices compile: {error}", file=sys.stderr)
        return 2
    text = to_json(document)
    if options.output is None:
        print(text, end="")
        return 0
    temporary = options.output.with_name(f".{options.output.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(options.output)
    print(f"{options.output}: {len(document['entries'])} entries, +ov:{document['sha256'][:8]}", file=sys.stderr)
    return 0
