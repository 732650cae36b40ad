"""`python -m headstock`."""

from headstock.cli import main

main()
