"""Entry points of `opentelemetry_instrumentor`: one per client library.

Nothing here imports a client library. A library that is imported later is patched right after its
`_base_client`, one that is there already at once; both by wrapt's post-import hooks.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # pyright: ignore[reportMissingTypeStubs]

from genai_meter import environment
from genai_meter.safety import guarded


class Library:
    """One client library of the Stainless family: to be patched as soon as it is imported."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._armed = False
        self._hooked = False
        self._seam: Any = None

    def arm(self) -> None:
        """Patch the library, now or when it is imported."""
        if environment.settings().disabled:
            return
        self._armed = True
        name = f"{self.package}._base_client"
        if not self._hooked:
            self._hooked = True
            # Fires at once for a module that is imported already.
            wrapt.register_post_import_hook(self._imported, name)
        elif name in sys.modules:
            self._install(sys.modules[name])

    def disarm(self) -> None:
        """Put everything back; a hook that has not fired yet will do nothing."""
        self._armed = False
        if self._seam is not None:
            self._seam.remove()

    def _imported(self, module: ModuleType) -> None:
        # An exception that left this hook would break the user's import.
        guarded(self._install, module)

    def _install(self, module: ModuleType) -> None:
        if not self._armed:
            return
        if self._seam is None:
            # Not before a client library is really used: everything that meters hangs on it.
            from genai_meter.clients.stainless import Seam

            self._seam = Seam(self.package)
        self._seam.install(module)


_OPENAI: Final = Library("openai")
_ANTHROPIC: Final = Library("anthropic")


def _bind(kwargs: dict[str, Any]) -> None:
    """Emit to the providers that a manual `instrument(tracer_provider=…)` names."""
    names = ("tracer_provider", "meter_provider", "logger_provider")
    given = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
    if given:
        from genai_meter import emit

        emit.bind(**given)


class OpenAIInstrumentor(BaseInstrumentor):
    """Meters `openai`: OpenAI, Azure, Bedrock, and every OpenAI-compatible provider called through it."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: features decide, not versions."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        guarded(_bind, kwargs)
        guarded(_OPENAI.arm)

    def _uninstrument(self, **_kwargs: Any) -> None:
        guarded(_OPENAI.disarm)


class AnthropicInstrumentor(BaseInstrumentor):
    """Meters `anthropic`: Anthropic, Bedrock, Vertex, Foundry."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: features decide, not versions."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        guarded(_bind, kwargs)
        guarded(_ANTHROPIC.arm)

    def _uninstrument(self, **_kwargs: Any) -> None:
        guarded(_ANTHROPIC.disarm)
