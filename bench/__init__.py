"""Whole-system comparisons: one package for each, with its method and its results."""
