"""The admin listener: metrics, explain, health."""
