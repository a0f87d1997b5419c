"""`python -m meanfield`: the command line."""

from meanfield.cli import main

main()
