"""HTTP caching rules (RFC 9111, 5861, 8246, 9211, 9213, 9875). Pure: `now` is passed in."""
