"""`make bench`: what metering costs, as ratios in one run. `python -m benchmarks --help`."""
