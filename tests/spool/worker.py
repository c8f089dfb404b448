# pyright: basic, reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOptionalSubscript=false
"""Each line read forks a process that calls until it is killed, and notes every answer it was given.

`python worker.py <journal>`; lines: `run` (until a signal comes) or `exit <seconds>` (ends by `os._exit`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import openai

THREADS = 2
PAUSE = 0.01
"""Seconds between two calls of a thread: so that the drill is about deaths, and not about the machine's CPU."""


def ask(client: openai.OpenAI, number: int) -> str:
    """One call, every fourth one streamed; its response id, as soon as the whole answer is there."""
    messages = [{"role": "user", "content": f"Call {number} of process {os.getpid()}"}]
    if number % 4:
        return client.chat.completions.create(model="gpt-4o-mini", messages=messages).id
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True))
    return chunks[-1].id


def load(journal: int) -> None:
    """Calls without end. A line in the journal is an answer that the caller had."""
    client = openai.OpenAI(max_retries=0)
    number = 0
    while True:
        number += 1
        os.write(journal, f"{ask(client, number)}\n".encode())
        time.sleep(PAUSE)


def child(journal: int, how: list[str]) -> None:
    for _ in range(THREADS):
        threading.Thread(target=load, args=(journal,), daemon=True).start()
    if how[0] == "exit":
        time.sleep(float(how[1]))
        os._exit(1)
    while True:
        signal.pause()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    journal = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    # The parent has a spool, its thread and a file of its own before the first child is there.
    os.write(journal, f"{ask(openai.OpenAI(), 1)}\n".encode())
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(journal, line.split())
        print(pid, flush=True)


if __name__ == "__main__":
    main()
