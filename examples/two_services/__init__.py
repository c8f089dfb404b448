"""Two services, neither of which knows of the meter: the owner named in the first is charged for the second's call."""
