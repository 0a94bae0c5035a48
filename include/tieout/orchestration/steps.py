"""The bodies of all tasks as plain functions over plain texts, without Airflow: what a night does, step by step.

`Steps` builds everything a step needs from the settings. Each step leaves its facts (counts, references, seconds)
with the run in the store; amounts and rows stay in the lake. `night` and `month_end` run the same steps one after the
other, for tests and for whoever has no Airflow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tieout.entities import Entities, load_entities
from tieout.errors import ConfigError, DataError, ErpUnavailable, Rejected, UnknownOutcome
from tieout.observe import step
from tieout.orchestration.calendars import business_date_complete_at
from tieout.orchestration.catalog import LEDGER_KIND
from tieout.orchestration.facts import conform_facts, extract_facts, foreign_row, kept_proof, proof_row
from tieout.settings import Connection, Settings
from tieout.store import Store

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.erp.port import Ledger
    from tieout.lake.landing import Landing
    from tieout.lake.tables import Lake
    from tieout.sources.config import SourceConfig
    from tieout.store.batches import Batch

LEDGER_SIDE = ("invoice_to_receivable", "journal_to_ledger")
"""Reconciliations whose right side is the general ledger; the others run before anything is posted."""

UNREAD = "The general ledger could not be read after posting: nothing here proves what the ERP holds now."

LONGEST_BACKFILL = 92
"""Days one request may cover: a quarter; more is several requests, each with its own dry run."""

NEEDS_FRESH_LEDGER = ("journal_to_ledger",)

log = logging.getLogger("tieout")

Facts = dict[str, Any]
Connect = Callable[[str], Connection]


@dataclass(frozen=True)
class Steps:
    """Every step, over one set of settings; `connect` gives a connection by its id."""

    settings: Settings
    connect: Connect = Connection.from_env

    @classmethod
    def from_env(cls, connect: Connect = Connection.from_env) -> Steps:
        """The steps over this process's settings. Raises ConfigError if the store was never upgraded."""
        made = cls(Settings.from_env(), connect)
        if not made.store.ready():
            raise ConfigError("the store has no tables yet", remedy="run `tieout store upgrade`")
        return made

    @cached_property
    def store(self) -> Store:
        """What is remembered."""
        return Store(self.settings.store)

    @cached_property
    def lake(self) -> Lake:
        """Table snapshots."""
        from tieout.lake import tables

        return tables.Lake(self.settings.lake)

    @cached_property
    def landing(self) -> Landing:
        """Raw pages."""
        from tieout.lake import landing

        return landing.Landing(self.settings.raw)

    @cached_property
    def entities(self) -> Entities:
        """The configured legal entities."""
        return load_entities(self.settings.config_file("entities.yaml"))

    @cached_property
    def sources(self) -> Mapping[str, SourceConfig]:
        """The configured sources by name."""
        from tieout.sources.config import load_sources

        return {source.name: source for source in load_sources(self.settings.config_file("sources.yaml"))}

    # --- runs ---------------------------------------------------------------------------------------

    def open_run(self, run_id: str, kind: str, business_date: str) -> dict[str, str]:
        """Record that a run starts; an empty business date means everything visible now."""
        day = date.fromisoformat(business_date) if business_date else None
        self.store.start_run(run_id, kind, day)
        return {"run_id": run_id, "business_date": business_date}

    def open_month(self, run_id: str, first: str) -> dict[str, str]:
        """Record that the month end of a month starts; its business date is the month's last day."""
        month = date.fromisoformat(first)
        last = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
        self.store.start_run(run_id, "month_end", last)
        self.store.add_facts(run_id, {"period": f"{last:%Y-%m}"})
        return {"run_id": run_id, "business_date": last.isoformat()}

    @contextmanager
    def _kept(self, run_id: str, name: str) -> Iterator[Facts]:
        """A step whose facts, with its wall time, are kept with the run once it has ended well."""
        facts: Facts = {}
        with step(name) as current:
            yield facts
            current.count(**{k: v for k, v in facts.items() if isinstance(v, int | str)})
        self.store.add_facts(run_id, {name: {**facts, "milliseconds": int(current.seconds * 1000)}})

    # --- the ERP ------------------------------------------------------------------------------------

    @cached_property
    def _erp(self) -> tuple[str, Mapping[str, Any]]:
        """The configured ERP: kind and the content of `erp/<kind>.yaml`."""
        files = self.settings.config_files("erp", ".yaml")
        if len(files) != 1:
            raise ConfigError("one ERP must be configured", got=[f.name for f in files], expected="one erp/<kind>.yaml")
        return files[0].stem, self.settings.load_yaml(f"erp/{files[0].name}")

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """The ERP's general ledger, for as long as the block lasts."""
        from tieout.erp import connect

        kind, config = self._erp
        with closing(connect(kind, self.connect(self._ledger_source.connection), config)) as ledger:
            yield ledger

    @cached_property
    def _ledger_source(self) -> SourceConfig:
        return next(source for source in self.sources.values() if source.kind == LEDGER_KIND)

    # --- intake -------------------------------------------------------------------------------------

    def extract(self, run_id: str, source: str, business_date: str) -> Facts:
        """Read a source up to the end of a business date (to now, if empty) and land it; a no-op where that is done."""
        from tieout.sources import catch_up

        config = self.sources[source]
        until = business_date_complete_at(date.fromisoformat(business_date), self.entities) if business_date else None
        with self._kept(run_id, f"extract/{source}") as facts:
            landed = catch_up(
                config, self.connect(config.connection), landing=self.landing, store=self.store, until=until
            )
            facts |= extract_facts(landed)
        return facts

    def conform(self, run_id: str) -> Facts:
        """Make canonical rows of everything landed and not read yet."""
        from tieout.conform.steps import conform

        with self._kept(run_id, "conform") as facts:
            facts |= conform_facts(
                conform(
                    list(self.sources.values()),
                    landing=self.landing,
                    lake=self.lake,
                    store=self.store,
                    config=self.settings,
                    run_id=run_id,
                )
            )
        return facts

    def freshness(self, run_id: str) -> Facts:
        """How far each source has been read, as instants."""
        from tieout.sources import read_until

        with self._kept(run_id, "freshness") as facts:
            for name, source in self.sources.items():
                end = read_until(source, self.store)
                facts[name] = end.isoformat() if end else ""
        self.store.finish_run(run_id, "success")
        return facts

    @cached_property
    def definitions(self) -> Sequence[str]:
        """Ids of the configured reconciliations."""
        from tieout.breaks.inputs import definition_ids

        return definition_ids(self.settings)

    # --- checks and reconciliations -----------------------------------------------------------------

    def quality_gate(self, run_id: str, business_date: str) -> Facts:
        """Check every canonical table against its suite; what fails is priced and kept with the run.

        Raises DataError where a blocking rule fails: nothing is matched or posted from tables that cannot be trusted.
        """
        from tieout.quality import gate

        with self._kept(run_id, "quality_gate") as facts:
            snapshot = self.store.published(run_id)
            result = gate(snapshot, lake=self.lake, settings=self.settings, run_id=run_id, business_date=business_date)
            facts |= {"expectations": result.expectations, "failed": result.failed, "rows": result.rows_failing}
        rows = result.report_rows()
        self.store.add_facts(run_id, {"gate_rows": rows})
        if not result.success:
            blocked = "; ".join(f"{row['entity']}: {row['reasons']}" for row in rows if row["blocking"])
            raise DataError("the quality gate blocks", got=blocked, remedy="correct the source or its mapping, clear")
        return facts

    def aggregate_usage(self, run_id: str, business_date: str) -> Facts:
        """Sum usage per subscription, meter and period into `usage_summary`."""
        from tieout.usage import publish_summary

        with self._kept(run_id, "usage") as facts:
            facts |= publish_summary(lake=self.lake, store=self.store, settings=self.settings, run_id=run_id)
        return facts

    def reconcile_sources(self, run_id: str, business_date: str) -> Facts:
        """Run every reconciliation that reads no ledger."""
        return self._reconcile(run_id, business_date, [d for d in self.definitions if d not in LEDGER_SIDE])

    def reconcile_ledger(self, run_id: str, business_date: str, *, ledger_read: bool) -> Facts:
        """Run the reconciliations against the ledger; some only where it was read after posting."""
        chosen = [d for d in self.definitions if d in LEDGER_SIDE and (ledger_read or d not in NEEDS_FRESH_LEDGER)]
        if not ledger_read:
            self._unproven(run_id, UNREAD)
        return self._reconcile(run_id, business_date, chosen)

    def _reconcile(self, run_id: str, business_date: str, definitions: Sequence[str]) -> Facts:
        from tieout.breaks.run import run

        day, counts = date.fromisoformat(business_date), {}
        for name in definitions:
            with self._kept(run_id, f"reconcile/{name}") as facts:
                result = run(name, day, lake=self.lake, store=self.store, settings=self.settings, run_id=run_id)
                facts |= {"matches": result.summary.matched, "breaks": result.summary.breaks}
            counts[name] = facts["breaks"]
        return counts

    def _unproven(self, run_id: str, sentence: str) -> None:
        """Keep a sentence on what the report of a run cannot vouch for."""
        kept = self.store.facts(run_id).get("unproven", [])
        if sentence not in kept:
            self.store.add_facts(run_id, {"unproven": [*kept, sentence]})

    # --- journals -----------------------------------------------------------------------------------

    def plan_journals(self, run_id: str, business_date: str) -> Facts:
        """Plan what the ledger still needs up to a business date, and check it."""
        from tieout.ledger.events import DAILY

        return self._plan(run_id, date.fromisoformat(business_date), DAILY)

    def plan_month_end(self, run_id: str, business_date: str) -> Facts:
        """Plan the revenue releases of the month a business date ends, and its accruals with their reversals."""
        from tieout.ledger.events import MONTH_END

        return self._plan(run_id, date.fromisoformat(business_date), MONTH_END)

    def _plan(
        self, run_id: str, day: date, streams: Sequence[str], entities: Sequence[str] = (), since: date | None = None
    ) -> Facts:
        from tieout.ledger.plan import plan_batches
        from tieout.ledger.rules import load_rules

        rules, config = load_rules(self.settings), self._erp[1]
        with self._kept(run_id, "plan") as facts:
            facts |= {"batches": 0, "journals": 0, "held": 0}
            for entity in self._chosen(entities):
                if day < entity.go_live:
                    continue
                plan = plan_batches(
                    entity,
                    day,
                    lake=self.lake,
                    store=self.store,
                    rules=rules,
                    run_id=run_id,
                    streams=streams,
                    since=since,
                    settings=self.settings,
                    period_open=self._period_open(entity.id),
                    line_limit=int(config.get("max_lines", 500)),
                    dimensions=tuple(config.get("dimensions", ())),
                )
                facts["batches"] += len(plan.batches)
                facts["journals"] += plan.journals.headers.num_rows
                facts["held"] += sum(held.events for held in plan.held)
        return facts

    def _chosen(self, ids: Sequence[str]) -> list[LegalEntity]:
        return [self.entities[one] for one in ids] if ids else list(self.entities.entities)

    def _period_open(self, entity_id: str) -> Callable[[date], bool]:
        """Whether the ERP's period around a date was open when it was last read; planning never waits for the ERP."""
        from tieout.lake.engine import engine

        with engine(self.settings) as session:
            self.lake.bind(session, self.store.published(), ["period"])
            closed = session.rows(
                "SELECT start_date, end_date FROM period WHERE legal_entity_id = $entity AND state <> 'open'",
                {"entity": entity_id},
            )
        return lambda day: not any(start <= day <= end for start, end in closed)

    def resume_posting(self, run_id: str) -> list[dict[str, Any]]:
        """The posting runs to start: one per batch the protocol can go on with, each under a name of its own.

        The first time, the ledger is taken over: opening balances are loaded from the ERP. While the ERP cannot be
        reached for that, nothing is due.
        """
        from tieout.ledger.post import due_batches, next_attempt

        try:
            self.take_over(run_id)
        except ErpUnavailable as error:
            self._unproven(run_id, f"The ERP could not be reached: {error.message}.")
            return []
        due = []
        for batch_id in due_batches(self.store):
            name = batch_id.removeprefix("TIEOUT/").replace("/v", "__v").replace("/", ".")
            run = f"post__{name}__a{next_attempt(self.store, batch_id)}"
            due.append({"trigger_run_id": run, "conf": {"batch_id": batch_id}})
        return due

    def take_over(self, run_id: str) -> None:
        """Load each entity's position the day before go-live, once. Raises ErpError if the ERP cannot be read."""
        from tieout.ledger import golive
        from tieout.ledger.rules import load_rules

        waiting = [e for e in self.entities.entities if not golive.opening(self.store, e).balances]
        if not waiting:
            return
        rules, snapshot = load_rules(self.settings), self.store.published(run_id)
        with self._ledger() as ledger:
            for entity in waiting:
                golive.load(
                    entity,
                    ledger,
                    lake=self.lake,
                    store=self.store,
                    rules=rules,
                    snapshot=snapshot,
                    settings=self.settings,
                )

    def check_approval(self, batch_id: str) -> str:
        """The batch's id, provided that it may be posted as far as approval goes."""
        from tieout.ledger import post

        post.check_approval(batch_id, self.store)
        return batch_id

    def submit(self, batch_id: str) -> str:
        """Bring a batch into the ERP; its state. Raises where a person must act, or where the next try may succeed."""
        from tieout.ledger import post

        with self._ledger() as ledger:
            state = post.submit(batch_id, ledger, self.store)
        if state == "unknown":
            raise UnknownOutcome("the ERP's answer was lost", record=batch_id, remedy="the next try looks it up first")
        return self._not_refused(batch_id, state)

    def read_back(self, batch_id: str) -> str:
        """Read a batch back and compare every line; its state."""
        from tieout.ledger import post

        with self._ledger() as ledger:
            state = post.read_back(batch_id, ledger, self.store)
        return self._not_refused(batch_id, state)

    def _not_refused(self, batch_id: str, state: str) -> str:
        if state in ("rejected", "partially_posted", "mismatched"):
            reason = self._batches([batch_id])[0].reason
            raise Rejected(f"the batch is {state.replace('_', ' ')}", record=batch_id, got=reason)
        return state

    def _batches(self, batch_ids: Sequence[str]) -> list[Batch]:
        from tieout.store import batches

        with self.store.reading() as session:
            return [batches.get(session, one) for one in batch_ids]

    def posting_result(self, run_id: str, batch_ids: Sequence[str]) -> Facts:
        """How far the batches of this run got, per entity: journals the ERP took, and those proved by reading back."""
        result: dict[str, dict[str, int]] = {e.id: {"posted": 0, "read_back": 0} for e in self.entities.entities}
        for batch in self._batches(batch_ids):
            counts = result[batch.slot.legal_entity_id]
            counts["posted"] += sum(j.state in ("confirmed", "posted", "mismatched") for j in batch.journals)
            counts["read_back"] += sum(j.state == "posted" for j in batch.journals)
        self.store.add_facts(run_id, {f"posting/{entity}": counts for entity, counts in result.items()})
        return result

    def read_ledger(self, run_id: str, business_date: str) -> Facts:
        """Read what the ERP's ledger holds now into the lake, with its trial balance at the end of a business date."""
        from tieout.conform.erp import catch_up_ledger
        from tieout.conform.steps import conform

        source = self._ledger_source
        with self._kept(run_id, f"extract/{source.name}") as facts, self._ledger() as ledger:
            landed = catch_up_ledger(
                source,
                ledger,
                self.entities,
                landing=self.landing,
                store=self.store,
                business_date=date.fromisoformat(business_date),
            )
            facts |= extract_facts(landed)
        with self._kept(run_id, "conform_ledger") as facts:
            facts |= conform_facts(
                conform(
                    source,
                    landing=self.landing,
                    lake=self.lake,
                    store=self.store,
                    config=self.settings,
                    run_id=run_id,
                    every_source={name: one.kind for name, one in self.sources.items()},
                )
            )
        return facts

    def prove(self, run_id: str, business_date: str) -> Facts:
        """Opening balance + our journals + foreign entries = trial balance, per entity and account."""
        from tieout.ledger.proof import prove

        day, rows, foreign, ties = date.fromisoformat(business_date), [], [], True
        names = self._account_names()
        with self._kept(run_id, "proof") as facts, self._ledger() as ledger:
            for entity in self.entities.entities:
                proof = prove(entity, day, ledger, self.store)
                ties = ties and proof.ties
                rows += [proof_row(entity.id, line, names.get((entity.id, line.account), "")) for line in proof.lines]
                foreign += [foreign_row(entry) for entry in proof.foreign]
            facts |= {"ties": ties, "accounts": len(rows), "foreign_entries": len(foreign)}
        self.store.add_facts(run_id, {"proof_rows": rows, "foreign_rows": foreign})
        return facts

    def _account_names(self) -> dict[tuple[str, str], str]:
        """Names of the ERP's accounts by entity and code, as last read."""
        from tieout.lake.engine import engine

        with engine(self.settings) as session:
            self.lake.bind(session, self.store.published(), ["gl_account"])
            return {(e, a): n for e, a, n in session.rows("SELECT legal_entity_id, code, name FROM gl_account")}

    # --- reports ------------------------------------------------------------------------------------

    def report(self, run_id: str, business_date: str) -> Facts:
        """Write HTML, workbook and result tables of a business date, and close the run's record."""
        from tieout.orchestration.reporting import write_report

        known = self.store.facts(run_id)
        with self._kept(run_id, "report") as facts:
            facts |= write_report(self, run_id, date.fromisoformat(business_date), known)
        self.store.finish_run(run_id, "success" if "proof" in known else "unproven")
        self._anchor(business_date)
        return facts

    def _anchor(self, business_date: str) -> None:
        """Write the audit chains' ends outside the store, where a rewritten store cannot reach them."""
        from tieout.store.audit import write_anchors

        anchors = [self.store.anchor(chain) for chain in self.store.audit_chains()]
        write_anchors(self.settings.evidence / "anchors", business_date, anchors)

    def close_backlog(self, run_id: str, business_date: str) -> Facts:
        """List what stands between the month a business date ends and its close, and close the run's record."""
        from tieout.calendar import period_of
        from tieout.close.backlog import backlog, write

        day, known = date.fromisoformat(business_date), self.store.facts(run_id)
        snapshot, rows = self.store.published(run_id), []
        with self._kept(run_id, "close_backlog") as facts:
            for entity in self.entities.entities:
                period = period_of(entity, day)
                table = backlog(
                    entity,
                    period,
                    today=day,
                    lake=self.lake,
                    store=self.store,
                    snapshot=snapshot,
                    proof=kept_proof(entity.id, day, known.get("proof_rows", ())),
                )
                write(table, entity, period, lake=self.lake, store=self.store, run_id=run_id)
                rows += table.to_pylist()
            facts["items"] = len(rows)
        self.store.add_facts(run_id, {"backlog_rows": rows})
        return facts | self.report(run_id, business_date)

    # --- past dates ---------------------------------------------------------------------------------

    def recompute(self, run_id: str, business_date: str) -> Facts:
        """Reconcile and report a past date again from what the lake holds."""
        self.reconcile_sources(run_id, business_date)
        self.reconcile_ledger(run_id, business_date, ledger_read=True)
        self._unproven(run_id, "Computed again from the lake as known now; the ERP was not read.")
        return self.report(run_id, business_date)

    def open_backfill(self, run_id: str, form: Mapping[str, Any], asked_by: str) -> Facts:
        """Check the form, audit who asked for what and why, and open one run per business date.

        Raises ConfigError naming the field that cannot be used.
        """
        first, last = (_form_date(form, name) for name in ("from_date", "to_date"))
        known, chosen = [e.id for e in self.entities.entities], list(form["entities"])
        if last < first or (last - first).days > LONGEST_BACKFILL:
            raise ConfigError(
                "the dates are no usable span", got=f"{first} to {last}", expected=f"up to {LONGEST_BACKFILL} days"
            )
        if not chosen or not set(chosen) <= set(known):
            raise ConfigError("entities must be configured ones", got=chosen, expected=known)
        reason = str(form.get("reason") or "").strip()
        if len(reason) < 10:
            raise ConfigError("a backfill needs a reason", got=reason, remedy="say in a sentence why")
        facts = {
            "from": first.isoformat(), "to": last.isoformat(), "entities": chosen, "mode": form["mode"],
            "reason": reason, "asked_by": asked_by,
        }  # fmt: skip
        self.store.start_run(run_id, "backfill", last, facts)
        for entity in self._chosen(chosen):
            chain = f"{entity.id}/{entity.ledger}"
            self.store.audit(chain, "backfill.requested", asked_by, {"run_id": run_id, **facts}, subject=run_id)
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        runs = [{"run_id": f"{run_id}.{day}", "business_date": day.isoformat()} for day in days]
        for run, day in zip(runs, days, strict=True):
            self.store.start_run(run["run_id"], "backfill", day)
        return {"run_id": run_id, **facts, "runs": runs}

    def backfill_dry_run(self, request: Mapping[str, Any]) -> Facts:
        """What posting the requested dates would change, logged line by line; counts by entity."""
        first, last = date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
        changes = self.preview_backfill(first, last, request["entities"])
        for change in changes:
            log.info(
                "would post %s: %s lines, %s %s",
                change["run_key"],
                change["lines"],
                change["debit"],
                change["currency"],
            )
        return {e: sum(c["entity"] == e for c in changes) for e in request["entities"]}

    def preview_backfill(self, first: date, last: date, entities: Sequence[str]) -> list[Facts]:
        """The journals that posting past dates would add: differences to what is posted, nothing where all is right."""
        from tieout.ledger import DAILY, load_rules, preview

        rules, snapshot, changes = load_rules(self.settings), self.store.published(), []
        for entity in self._chosen(entities):
            journals = preview(
                entity,
                DAILY,
                first,
                last,
                lake=self.lake,
                store=self.store,
                rules=rules,
                snapshot=snapshot,
                settings=self.settings,
                period_open=self._period_open(entity.id),
            )
            changes += [
                {
                    "entity": entity.id,
                    "run_key": header["run_key"],
                    "lines": header["line_count"],
                    "debit": format(header["debit"], "f"),
                    "currency": header["currency"],
                }
                for header in journals.headers.to_pylist()
            ]
        return changes

    def plan_backfill(self, request: Mapping[str, Any]) -> dict[str, str]:
        """In mode `post`, plan the differences of the requested dates; in `report_only`, nothing."""
        from tieout.ledger import DAILY

        if request["mode"] == "post":
            last, since = date.fromisoformat(request["to"]), date.fromisoformat(request["from"])
            self._plan(request["run_id"], last, DAILY, request["entities"], since)
        return {"run_id": request["run_id"], "business_date": request["to"]}

    def replay(self, source: str, object: str | None = None) -> Facts:
        """Conform a source's landed records again, after a mapping or a rule was mended."""
        from tieout.conform.steps import replay

        run_id = f"replay.{source}.{self.store.now():%Y%m%dT%H%M%S}"
        self.store.start_run(run_id, "replay", None, {"source": source, "object": object})
        with self._kept(run_id, "conform") as facts:
            result = replay(
                self.sources[source],
                landing=self.landing,
                lake=self.lake,
                store=self.store,
                config=self.settings,
                run_id=run_id,
                objects=[object] if object else None,
                every_source={name: one.kind for name, one in self.sources.items()},
            )
            facts |= conform_facts(result)
        self.store.finish_run(run_id, "success")
        return facts

    def breaks(self, business_date: date, definition: str | None = None) -> list[Facts]:
        """The published breaks of a business date, of one reconciliation or of all."""
        from tieout.lake.engine import engine

        with engine(self.settings) as session:
            self.lake.bind(session, self.store.published(), ["breaks"])
            found = session.sql(
                "SELECT * FROM breaks "
                "WHERE business_date = $day AND definition_id = coalesce($definition, definition_id) "
                "ORDER BY definition_id, break_type, legal_entity_id, break_key, ordinal",
                {"day": business_date, "definition": definition},
            )
        return list(found.to_pylist())

    def preview_reconciliation(self, definition: str, business_date: date) -> Facts:
        """Run one configured reconciliation over the published tables and give its summary; nothing is written."""
        from dataclasses import asdict

        from tieout.breaks.inputs import bind_sides, definition_path, side_queries
        from tieout.lake.engine import engine
        from tieout.reconcile import load_definition, reconcile

        loaded = load_definition(definition_path(self.settings, definition))
        with engine(self.settings) as session:
            sides = bind_sides(
                session,
                side_queries(self.settings, loaded),
                lake=self.lake,
                snapshot=self.store.published(),
                store=self.store,
                settings=self.settings,
                business_date=business_date,
            )
            found = reconcile(loaded, sides["left"], sides["right"], engine=session, as_of=business_date)
        return asdict(found.summary)

    # --- whole runs, without Airflow ----------------------------------------------------------------

    def night(self, run_id: str, business_date: str) -> Facts:
        """Everything a night does, in its order, in this process; the run's facts."""
        self.open_run(run_id, "nightly", business_date)
        for source in self.sources.values():
            if source.kind != LEDGER_KIND:
                self.extract(run_id, source.name, business_date)
        self.conform(run_id)
        self.quality_gate(run_id, business_date)
        self.aggregate_usage(run_id, business_date)
        self.reconcile_sources(run_id, business_date)
        self.plan_journals(run_id, business_date)
        self._post(run_id)
        self.read_ledger(run_id, business_date)
        self.reconcile_ledger(run_id, business_date, ledger_read=True)
        self.prove(run_id, business_date)
        self.report(run_id, business_date)
        return self.store.facts(run_id)

    def month_end(self, run_id: str, first: str) -> Facts:
        """Everything a month end does, in its order, in this process; the run's facts."""
        business_date = self.open_month(run_id, first)["business_date"]
        self.plan_month_end(run_id, business_date)
        self._post(run_id)
        self.read_ledger(run_id, business_date)
        self.prove(run_id, business_date)
        self.close_backlog(run_id, business_date)
        return self.store.facts(run_id)

    def _post(self, run_id: str) -> None:
        due = [run["conf"]["batch_id"] for run in self.resume_posting(run_id)]
        for batch_id in due:
            self.submit(self.check_approval(batch_id))
            self.read_back(batch_id)
        self.posting_result(run_id, due)


def _form_date(form: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(form[name]))
    except ValueError:
        raise ConfigError("not a date", record=name, got=form[name], expected="YYYY-MM-DD") from None
