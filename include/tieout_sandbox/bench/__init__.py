"""Benchmarks of the library on data they generate themselves, beside the peers that do the same work."""
