"""The tier race: purge at an edge, refill from a parent that has not heard of it, in any order that a seed draws."""
