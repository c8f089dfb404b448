"""Write the shipped book from the installed genai-prices and the facts (`make prices`)."""

from __future__ import annotations

import sys

from genai_meter.pricing.book import SHIPPED, Book, read_book

from genai_meter_exporter.prices import compiler


def main() -> int:
    """Regenerate the shipped book; says what changed."""
    providers, base, data_date = compiler.installed()
    if not data_date:
        print(f"no data date is known for {base}: add it to DATA_DATES", file=sys.stderr)
        return 1
    content = compiler.compile_book(providers, base, data_date)
    before = read_book().book_id if SHIPPED.exists() else "none"
    book = Book(content)
    if book.book_id != before:
        SHIPPED.write_bytes(compiler.pack(content))
    print(f"{book.book_id} ({SHIPPED.stat().st_size:,} bytes); before: {before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
