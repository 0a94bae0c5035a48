"""`python -m tieout.cli`: the command without its script."""

from tieout.cli import main

main()
