"""Other people's producers of usage, each in an environment of its own, sending to a real exporter."""
