"""Instructions of this process, by the processor's own counter where Linux lets us read it.

CPU time swings with what else the machine does; the number of instructions hardly does. It is reported
beside the time, not instead of it: instructions that miss a cache take longer.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
"""perf_event_open."""
_SIZE: Final = 120
_HARDWARE_INSTRUCTIONS: Final = (0, 1)
"""Type and event, see perf_event_open(2)."""
_INHERIT: Final = 1 << 1
_EXCLUDE_KERNEL: Final = 1 << 5
_EXCLUDE_HYPERVISOR: Final = 1 << 6


class Instructions:
    """Counts instructions in user space, of this thread and those it starts from now on."""

    def __init__(self) -> None:
        self._file = _open()

    def read(self) -> int | None:
        """So many since it was made; None where the machine does not tell."""
        if self._file is None:
            return None
        return struct.unpack("Q", os.read(self._file, 8))[0]


def _open() -> int | None:
    number = _SYSCALL.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return None
    kind, event = _HARDWARE_INSTRUCTIONS
    attributes = bytearray(_SIZE)
    struct.pack_into("IIQ", attributes, 0, kind, _SIZE, event)
    struct.pack_into("Q", attributes, 40, _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR)
    buffer = (ctypes.c_char * _SIZE).from_buffer(attributes)
    found: int = ctypes.CDLL(None, use_errno=True).syscall(number, buffer, 0, -1, -1, 0)
    return found if found >= 0 else None
