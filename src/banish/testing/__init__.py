"""What ships for tests: a clock to turn by hand, an origin that follows a script, a long way between two edges."""
