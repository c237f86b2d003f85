"""HTTP semantics and HTTP/1.1 syntax (RFC 9110, RFC 9112). Pure: no clock, no socket, no log."""
