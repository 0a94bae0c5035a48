"""Reconciliation of two sides: a definition in, SQL in the engine, matches, breaks and totals out. Pure: no store."""

from tieout.reconcile.definition import Definition, WorkCalendar
from tieout.reconcile.definition_file import json_schema, load_definition
from tieout.reconcile.measure import Measurement, measure
from tieout.reconcile.run import Reconciliation, Summary, reconcile, result_schema
from tieout.reconcile.simulate import Simulation, compare, simulate
from tieout.reconcile.verdicts import VERDICTS

__all__ = [
    "VERDICTS",
    "Definition",
    "Measurement",
    "Reconciliation",
    "Simulation",
    "Summary",
    "WorkCalendar",
    "compare",
    "json_schema",
    "load_definition",
    "measure",
    "reconcile",
    "result_schema",
    "simulate",
]
