"""A nightly job that says in one line who pays: the only thing an application ever has to add, and only if it wants."""

from __future__ import annotations

from genai_meter import attribute
from openai import OpenAI


@attribute(tenant="acme", feature="nightly-index", workflow="reindex")
def reindex(documents: list[str]) -> int:
    """Embed all documents, in batches."""
    client = OpenAI()
    vectors = 0
    for start in range(0, len(documents), 20):
        answer = client.embeddings.create(model="text-embedding-3-small", input=documents[start : start + 20])
        vectors += len(answer.data)
    return vectors


if __name__ == "__main__":
    print(reindex([f"Document {n}: " + "what the customer wrote, line by line. " * 40 for n in range(60)]))
