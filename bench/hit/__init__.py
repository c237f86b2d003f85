"""What one cache hit costs, against nginx. Method: README.md; results: results/."""
