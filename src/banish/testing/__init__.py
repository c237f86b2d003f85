"""What ships for tests: a clock to turn by hand, an origin that follows a script."""
