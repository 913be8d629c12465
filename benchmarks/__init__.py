"""Measurements of the service beside its peers, on one machine: `python -m benchmarks.run`."""
