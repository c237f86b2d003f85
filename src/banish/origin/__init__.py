"""The way to the origin: connecting, pooling, one exchange at a time, every wait bounded."""
