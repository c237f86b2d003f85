"""Purging: targets, stamps and the fetch fence. Pure."""
