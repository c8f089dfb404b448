"""Real frameworks against the stand-in provider, each in an environment of its own."""
