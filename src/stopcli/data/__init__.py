"""Labelled tables, splits, labels and published benchmarks."""
