"""Do hits wait while the admin listener works? Method: README.md; results: results/."""
