"""What the demo prints: short, and as readable in a log file as on a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

WIDTH: Final = 118

_TOLD: Final = {
    "summary": "",
    "description": "",
    "primarily_due_to": "Primarily due to: ",
    "owner": "Owner: ",
    "action": "Next step: ",
}
"""Annotations of an alert, and the words before them."""


class Report:
    """Prints steps with their time, commands with their output, and facts."""

    def __init__(self) -> None:
        terminal = Console()
        self._console = Console(highlight=False, width=min(terminal.width, WIDTH) if terminal.is_terminal else WIDTH)
        self._started = time.monotonic()
        self._titles = 0

    @property
    def seconds(self) -> float:
        """Since the start of the demo."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """A headline, numbered."""
        self._titles += 1
        self._console.print()
        self._console.rule(Text(f"{self._titles}. {text}", style="bold"), align="left", style="dim")

    @contextmanager
    def step(self, text: str) -> Generator[None]:
        """One thing that takes a moment; printed once it is done."""
        began = time.monotonic()
        yield
        self.line(f"[green]✓[/] {text} [dim]({time.monotonic() - began:.1f} s)[/]")

    def line(self, markup: str) -> None:
        """One line of markup."""
        self._console.print(Padding(Text.from_markup(markup), (0, 0, 0, 2), expand=False))

    def plain(self, text: str) -> None:
        """Text as it is, its own layout kept."""
        for line in text.rstrip().splitlines():
            self._console.print(Text("  " + line.rstrip()), soft_wrap=True)

    def command(self, arguments: Sequence[str], output: str) -> None:
        """A command that the reader can repeat, and what it printed."""
        self.line(f"[bold cyan]$ genai-meter {' '.join(arguments)}[/]")
        self.plain(output)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and values, one under the other."""
        width = max(map(len, facts))
        for name, value in facts.items():
            text = Text.assemble((f"{name:<{width}}  ", "bold"), value)
            self._console.print(Padding(text, (0, 0, 0, 2), expand=False))

    def alert(self, alert: Mapping[str, Any], after: float) -> None:
        """One firing alert with what it says."""
        labels, annotations = alert["labels"], alert["annotations"]
        style = "bold red" if labels["severity"] == "critical" else "bold yellow"
        self.line(
            f"[{style}]FIRING[/] [bold]{labels['alertname']}[/] ({labels['severity']}), {after:.0f} s after the traffic"
        )
        for name, words in _TOLD.items():
            if annotations.get(name):
                self._console.print(Padding(Text(words + annotations[name]), (0, 0, 0, 4), expand=False))
        self._console.print()

    def chat(self, message: Mapping[str, Any]) -> None:
        """A message to Slack, as the channel shows it."""
        (attachment,) = message["attachments"]
        style = {"danger": "red", "warning": "yellow"}.get(attachment["color"], "green")
        told = Text.assemble((attachment["title"], f"bold {style}"), "\n\n", _marked(attachment["text"]))
        panel = Panel(
            told, title=f"Slack  {message['channel']}", title_align="left", box=box.ROUNDED, border_style=style
        )
        self._console.print(Padding(panel, (0, 2, 0, 2)))


_MARKS: Final = re.compile(
    r"\*(?P<bold>[^*\n]+)\*|<(?P<url>[^|>\n]+)\|(?P<words>[^>\n]+)>|^_(?P<aside>.+)_$", re.MULTILINE
)


def _marked(text: str) -> Text:
    """Slack's marks as styles: bold, links, asides."""
    shown, end = Text(), 0
    for mark in _MARKS.finditer(text):
        shown.append(text[end : mark.start()])
        if mark["bold"]:
            shown.append(mark["bold"], "bold")
        elif mark["url"]:
            shown.append(mark["words"], f"underline link {mark['url']}")
        else:
            shown.append(mark["aside"], "dim")
        end = mark.end()
    return shown.append(text[end:])
