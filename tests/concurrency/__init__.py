"""Applications under `opentelemetry-instrument` that call from many processes, tasks and threads at once."""
