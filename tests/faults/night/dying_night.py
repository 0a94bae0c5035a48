"""Steps of a night, each in a process of its own that may kill itself with SIGKILL.

Reads one JSON line per step: `{"home", "step", "argument", "survived"}`. `survived` names the points that the step's
processes have died at before; this one dies at the first point that is not among them (null: at none). Answers with
`{"code", "point", "result"}`. A point is a place in the code that writes: before a commit of the store, after a table
was written, before and after a write to the ERP, before a file is opened for writing or renamed; and the step's end,
when all is done and nobody knows yet.

The steps are forked from this process, which has imported everything and used none of it: a start costs nothing.
"""

import functools
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout

from tieout.erp.jsonrpc import JsonRpc
from tieout.lake.tables import Lake
from tieout.orchestration import checking, closing, intake, planning, posting, steps
from tieout.orchestration.preload import preload
from tieout.orchestration.work import Work
from tieout.store.database import Database

RUN, DAY = "night", "2026-03-29"

STEPS = {
    "open": lambda work, _: steps.open_run(work, RUN, "nightly", DAY),
    "extract": lambda work, source: intake.extract(work, RUN, source, DAY),
    "conform": lambda work, _: intake.conform(work, RUN),
    "gate": lambda work, _: checking.quality_gate(work, RUN, DAY),
    "usage": lambda work, _: checking.aggregate_usage(work, RUN, DAY),
    "reconcile_sources": lambda work, _: checking.reconcile_sources(work, RUN, DAY),
    "plan": lambda work, _: planning.plan_journals(work, RUN, DAY),
    "resume": lambda work, _: [run["conf"]["batch_id"] for run in posting.resume_posting(work, RUN)],
    "submit": lambda work, batch_id: posting.submit(work, batch_id),
    "read_back": lambda work, batch_id: posting.read_back(work, batch_id),
    "result": lambda work, due: posting.posting_result(work, RUN, due.split()),
    "read_ledger": lambda work, _: intake.read_ledger(work, RUN, DAY),
    "reconcile_ledger": lambda work, _: checking.reconcile_ledger(work, RUN, DAY, ledger_read=True),
    "prove": lambda work, _: posting.prove(work, RUN, DAY),
    "report": lambda work, _: closing.report(work, RUN, DAY),
}
READING = ("search", "read", "login", "logout", "get_preferences", "search_read", "search_count")
LEASING = ("acquire", "renew", "release")
NOT_THE_PLACE = ("contextlib.py", "dying_night.py", "/tieout/store/database.py", "/tieout/store/__init__.py")


def place() -> str:
    """Module and function that the write came from; empty where only a lease was taken, held or given back."""
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename.endswith(NOT_THE_PLACE):
        if frame.f_code.co_name in LEASING:
            return ""
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}" if frame else "the step"


def arm(home: str, survived: list[str], pipe: int) -> Callable[[str], None]:
    """Make the first point not survived yet the last thing this process does; gives what is called at a point."""
    known = set(survived)

    def by(what: str) -> None:
        where = place()
        point = f"{what} {where}"
        if where and point not in known:
            os.write(pipe, json.dumps({"point": point}).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    writing, write, send = Database.writing, Lake.write, JsonRpc._send

    @contextmanager
    def committing(self):
        with writing(self) as session:
            yield session
            session.flush()
            by("before commit")

    @functools.wraps(write)
    def writing_table(self, *args, **kwargs):
        version = write(self, *args, **kwargs)
        by("after table")
        return version

    @functools.wraps(send)
    def sending(self, method, *args, **kwargs):
        if method.endswith(READING):
            return send(self, method, *args, **kwargs)
        by(f"before {method}")
        answer = send(self, method, *args, **kwargs)
        by(f"after {method}")
        return answer

    def files(event: str, args: tuple) -> None:
        if event == "os.rename" and str(args[0]).startswith(home):
            by("before rename")
        if event == "open" and str(args[0]).startswith(home) and args[2] & (os.O_WRONLY | os.O_RDWR):
            by("before open")

    Database.writing, Lake.write, JsonRpc._send = committing, writing_table, sending
    sys.addaudithook(files)
    return by


def child(order: dict, pipe: int) -> None:
    os.environ["TIEOUT_HOME"] = order["home"]
    try:
        work = Work.from_env()
        by = arm(order["home"], order["survived"], pipe) if order["survived"] is not None else None
        result = STEPS[order["step"]](work, order["argument"])
        if by:
            by("at the end")
        os.write(pipe, json.dumps({"result": result}, default=str).encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main() -> None:
    with redirect_stdout(sys.stderr):  # answers alone go to standard output
        preload()
    gc.freeze()  # a child that collects garbage would otherwise touch, and so copy, all of this process's memory
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(json.loads(line), writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, **json.loads(said or "{}")}), flush=True)


if __name__ == "__main__":
    main()
