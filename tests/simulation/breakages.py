"""Breakages."""
BREAKAGES = {}
