"""Where stored responses and their bodies live."""
