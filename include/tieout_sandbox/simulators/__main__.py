"""`python -m tieout_sandbox.simulators`: render the company once, then answer as its vendors.

Prints one line of JSON with the port and the process id when it answers; `--ready FILE` writes the same line there.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tieout_sandbox.simulators.build import build
from tieout_sandbox.simulators.clock import parse_instant
from tieout_sandbox.simulators.credentials import load_or_create
from tieout_sandbox.simulators.documents import DocumentStore
from tieout_sandbox.simulators.server import serve


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="tieout_sandbox.simulators", description=__doc__)
    parser.add_argument("--db", type=Path, required=True, help="SQLite file of documents; rendered if absent")
    parser.add_argument("--secrets", type=Path, required=True, help="credentials file; made if absent, mode 0600")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 chooses a free one")
    parser.add_argument("--now", help="set the clock, e.g. 2026-03-30T09:00:00Z; else where it last stood")
    parser.add_argument("--ready", type=Path, help="file that gets the ready line")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--clean", action="store_true", help="a company without planted breaks")
    args = parser.parse_args()
    if not args.db.exists():
        from tieout_sandbox.company import generate

        build(generate(seed=args.seed, scale=args.scale, clean=args.clean), args.db)
    store = DocumentStore.open(args.db)
    credentials = load_or_create(args.secrets, store.meta("accounts"))
    store.close()

    def announce(port: int) -> None:
        line = json.dumps({"port": port, "pid": os.getpid()})
        if args.ready:
            partial = args.ready.with_suffix(".partial")
            partial.write_text(line)
            partial.replace(args.ready)
        print(line, flush=True)

    now = parse_instant(args.now) if args.now else None
    serve(args.db, credentials, port=args.port, now=now, announce=announce)


if __name__ == "__main__":
    main()
