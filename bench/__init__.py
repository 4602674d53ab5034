"""Benchmarks of the hot paths, each beside a reference that runs in the same minute. `make bench` runs them all."""
