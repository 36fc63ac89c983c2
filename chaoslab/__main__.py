"""`python -m chaoslab` is the `chaoslab` program."""

from chaoslab.cli import main

main()
