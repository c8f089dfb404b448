"""Caches of libraries, each tried in an environment of its own."""
