"""`python -m chaoslab` is the `chaoslab` program."""

from chaoslab.cli.program import main

main()
