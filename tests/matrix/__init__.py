"""The caller matrix: what a caller sees must be the same with the plugin on, off, and broken.

Each scenario is a small program against a client library (`openai_*`, `anthropic_*`; `families.py` has them all).
`child.py` runs those of some families in one process, inside an environment with one version of each library, in one
mode:

    off      genai_meter is not even imported
    on       every library is metered
    chaos1   everything before the request raises: no call can be prepared
    chaos2   calls are prepared, everything that records them raises

and writes down what the caller was given: values, types, exceptions, every chunk, what the server was
sent, and (`on`) what was metered. `table.py` compares the modes.
`python -m tests.matrix FAMILY…` runs oldest and newest of some families, `--every` every version.
"""
