# pyright: basic, reportMissingImports=false
"""Calls from a thread pool and from threads: who pays is said where the work is handed over, not in the thread."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from genai_meter import attribute

client = openai.OpenAI(max_retries=5)


def ask(number: int) -> None:
    messages: Any = [{"role": "user", "content": f"Thread {number}"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)


def main() -> None:
    count = int(sys.argv[1])
    threads = []
    with ThreadPoolExecutor(16) as pool:
        for number in range(count):
            with attribute(tenant=f"tenant-{number % 3}"):
                if number % 4:
                    pool.submit(ask, number)
                else:
                    threads.append(threading.Thread(target=ask, args=(number,)))
                    threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
