"""`python -m banish`."""

from banish.cli.main import main

main()
