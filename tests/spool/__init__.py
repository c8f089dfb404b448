"""Applications under `opentelemetry-instrument` that write a spool and die."""
