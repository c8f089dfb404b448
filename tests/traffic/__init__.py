"""Recorded traffic through the real client libraries, with the plugin off and on. `python -m tests.traffic DIR`."""
