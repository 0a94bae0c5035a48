"""Great Expectations' side of the gate: ordinary suites over the rows, or over the engine's counts of large tables.

Nothing Great Expectations sees is a number it could bend: values go in as text, rules over amounts as true or false
worked out exactly by the engine. The module is imported inside a task only: it costs seconds and 280 MB.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tieout.lake.engine import Engine
from tieout.quality.results import SuiteResult
from tieout.quality.rules import Rule, Suite, fails


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Great Expectations said of one suite: the ids of rules that do not hold."""

    entity: str
    failed: frozenset[str]


class Expectations:
    """A Great Expectations project in one folder: suites, results and Data Docs of one run, under its name there."""

    def __init__(self, folder: Path, run_name: str) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")  # nothing of ours is sent to anyone
        import great_expectations as gx
        from great_expectations.core.run_identifier import RunIdentifier

        logging.getLogger("great_expectations").setLevel(logging.WARNING)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._gx, self._run = gx, RunIdentifier(run_name=run_name)
        # in memory: a project on disk is written out and read again on every change, half of the gate's time
        self._context = gx.get_context(mode="ephemeral")
        site = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder / "data_docs")}
        # a page of results lists its suite's rules: no second page that lists them without
        sections = dict.fromkeys(("expectations", "profiling"), "None")
        for name in list(self._context.get_site_names()):
            self._context.delete_data_docs_site(name)
        self._context.add_data_docs_site(
            "data_docs", {"class_name": "SiteBuilder", "store_backend": site, "site_section_builders": sections}
        )
        self._context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        self._source = self._context.data_sources.add_pandas("canonical")
        self._folder = folder

    def check(self, session: Engine, suite: Suite, measured: SuiteResult) -> Verdict:
        """Validate one suite over its rows, or over the engine's counts where it measured `metrics`."""
        rows = measured.measured == "rows"
        frame = _rows(session, suite) if rows else _counts(session, measured)
        built = self._gx.ExpectationSuite(
            name=suite.entity, meta={"rows": measured.rows, "over": "rows" if rows else "counts over every row"}
        )
        for rule in suite.rules:
            built.add_expectation(self._expectation(rule) if rows else self._counted(rule))
        added = self._context.suites.add(built)
        batch = self._source.add_dataframe_asset(suite.entity).add_batch_definition_whole_dataframe("whole")
        definition = self._context.validation_definitions.add(
            self._gx.ValidationDefinition(name=suite.entity, data=batch, suite=added)
        )
        # counts and examples of a rule that holds are worth nothing, and finding them is half of the judge's time
        detail = "SUMMARY" if measured.failed else "BOOLEAN_ONLY"
        outcome = definition.run(batch_parameters={"dataframe": frame}, result_format=detail, run_id=self._run)
        broken = (single.expectation_config.meta["rule"] for single in outcome.results if not single.success)
        return Verdict(suite.entity, frozenset(broken))

    def build_docs(self) -> Path:
        """Write the Data Docs and return their first page."""
        self._context.build_data_docs()
        return self._folder / "data_docs" / "index.html"

    def _expectation(self, rule: Rule) -> Any:
        made = self._gx.expectations
        told = {
            "meta": {"rule": rule.id, "severity": rule.severity},
            "notes": rule.says,
            "severity": _SEVERITY[rule.severity],
        }
        if rule.where is None and rule.not_null:
            return made.ExpectColumnValuesToNotBeNull(column=rule.not_null, **told)
        if rule.where is None and rule.in_set:
            return made.ExpectColumnValuesToBeInSet(column=rule.in_set, value_set=list(rule.values), **told)
        if rule.id == KEY_RULE:
            return made.ExpectCompoundColumnsToBeUnique(column_list=list(rule.unique), **told)
        return made.ExpectColumnValuesToBeInSet(column=f"holds: {rule.id}", value_set=[True], **told)

    def _counted(self, rule: Rule) -> Any:
        return self._gx.expectations.ExpectColumnValuesToBeInSet(
            column=f"failing: {rule.id}", value_set=["0"], meta=_meta(rule), notes=rule.says,
            severity=_SEVERITY[rule.severity],
        )  # fmt: skip


KEY_RULE = "key_is_unique"
_SEVERITY = {"blocking": "critical", "warning": "warning"}


def _meta(rule: Rule) -> dict[str, str]:
    return {"rule": rule.id, "severity": rule.severity}


def _rows(session: Engine, suite: Suite) -> Any:
    """The rows as a frame of texts: the columns rules name, and one true-or-false column for each other rule."""
    columns: dict[str, str] = {}
    for rule in suite.rules:
        key = rule.unique if rule.id == KEY_RULE else ()
        plain = [] if rule.where else [c for c in (rule.not_null, rule.in_set, *key) if c]
        for column in plain:
            columns[column] = f'CAST(r."{column}" AS VARCHAR) AS "{column}"'
        if not plain:
            columns[f"holds: {rule.id}"] = f'NOT ({fails(rule)}) AS "holds: {rule.id}"'
    return session.sql(f'SELECT {", ".join(columns.values())} FROM "{suite.entity}" r').to_pandas()


def _counts(session: Engine, measured: SuiteResult) -> Any:
    columns = ", ".join(f"'{r.rows_failing}' AS \"failing: {r.id}\"" for r in measured.rules)
    return session.sql(f"SELECT {columns}").to_pandas()
