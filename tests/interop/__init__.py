"""The meter beside other instrumentations, each in an environment of its own."""
