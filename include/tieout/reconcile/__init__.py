"""Reconciliation of two sides: a definition in, SQL in the engine, matches, breaks and totals out. Pure: no store."""

from tieout.reconcile.definition import Definition, WorkCalendar
from tieout.reconcile.definition_file import json_schema, load_definition
from tieout.reconcile.run import Reconciliation, Summary, reconcile, result_schema
from tieout.reconcile.verdicts import VERDICTS

__all__ = [
    "VERDICTS",
    "Definition",
    "Reconciliation",
    "Summary",
    "WorkCalendar",
    "json_schema",
    "load_definition",
    "reconcile",
    "result_schema",
]
