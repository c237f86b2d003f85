"""The composition root: configuration, sites, hooks, books and lifecycle."""
