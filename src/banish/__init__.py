"""banish: an HTTP edge cache that forgets everywhere at once."""

__version__ = "0.1.0"
