"""One night, killed with SIGKILL at the n-th call of a function: `dying_night.py RUN_ID DATE [POINT N WHEN]`.

POINT is `module:Class.method`; WHEN is `before` or `after` the call. Without them the night runs to its end.
"""

import functools
import importlib
import os
import signal
import sys

from tieout.orchestration import steps
from tieout.orchestration.work import Work


def arm(point: str, number: int, when: str) -> None:
    """Make the n-th call of a method the last thing this process does."""
    module, _, path = point.partition(":")
    owner_name, _, method = path.partition(".")
    owner = getattr(importlib.import_module(module), owner_name)
    original, calls = getattr(owner, method), [0]

    @functools.wraps(original)
    def dying(*args, **kwargs):
        calls[0] += 1
        mine = calls[0] == number
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, dying)


if __name__ == "__main__":
    run_id, business_date, *rest = sys.argv[1:]
    if rest:
        arm(rest[0], int(rest[1]), rest[2])
    steps.night(Work.from_env(), run_id, business_date)
