"""The command `tieout`: everything it does is a call to the library, imported when that command runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point; an error Tieout raises on purpose is told in one line, without a traceback."""
    from tieout.cli.commands import app
    from tieout.errors import TieoutError

    try:
        app()
    except TieoutError as error:
        print(f"tieout: {error}", file=sys.stderr)
        sys.exit(1)
