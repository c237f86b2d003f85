"""What purging costs, what it costs hits, and whether anything stale is ever seen after a purge was acknowledged."""
