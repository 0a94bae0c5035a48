"""`python -m tieout_sandbox.simulators.odoo`: the simulated Odoo over one SQLite file, as a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

from tieout_sandbox.simulators.odoo.books import Books
from tieout_sandbox.simulators.odoo.wire import Wire, serve


def main() -> None:
    """Parse the command line and serve until ended."""
    parser = argparse.ArgumentParser(prog="tieout_sandbox.simulators.odoo", description=__doc__)
    parser.add_argument("--db", type=Path, required=True, help="SQLite file of the books")
    parser.add_argument("--port", type=int, required=True, help="loopback port")
    parser.add_argument("--version", type=int, default=19, help="Odoo's major version")
    args = parser.parse_args()
    serve(Wire(Books(args.db, args.version)), args.port).serve_forever()


if __name__ == "__main__":
    main()
