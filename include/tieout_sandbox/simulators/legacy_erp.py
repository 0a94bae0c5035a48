"""A legacy ERP that knows files only: it imports dropped journals, acknowledges them, and writes its extracts.

It stands for any ERP without an interface: its formats are those of `tieout.erp.file_drop`, which such an ERP's own
import and export jobs have to be set up for. What it holds is kept in its folder, so it survives being ended.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tieout.erp.drop_folder import DropFolder, Manifest

_GL = ("journal_id", "journal_number", "line", "date", "posted_on", "account", "debit", "credit", "currency",
       "reference", "narrative", "description", "changed_at")  # fmt: skip
_ACK = ("run_key", "sha256", "document", "at", "reason", "code")


@dataclass
class LegacyErp:
    """An import job over a drop folder. What it does wrong on request are its attributes."""

    root: Path
    companies: Mapping[str, str]
    """Company code → currency."""
    accounts: Mapping[str, str]
    columns: tuple[str, ...] = ("product_family",)
    """Columns of dimensions."""
    unspoken: int = 0
    """So many imports it does not acknowledge."""
    asleep: bool = False
    """It does not even import."""
    extracts: bool = True
    """It writes its extracts after each import."""
    twist: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda journal: [journal]
    """What it makes of a journal: other amounts, twice, nothing."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    closed: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _job: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder = DropFolder(f"file://{self.root}")
        self.books = self.root / "books.json"
        if not self.books.exists():
            self._keep([])
        self.publish()

    @property
    def journals(self) -> list[dict[str, Any]]:
        """What it holds: company, id, date, reference and lines of each journal."""
        found: list[dict[str, Any]] = json.loads(self.books.read_text())
        return found

    def by_hand(self, company: str, on: date, text: str, *lines: tuple[str, str, str]) -> None:
        """An accountant's own entry: lines of (account, debit, credit)."""
        entry = [{"account": a, "debit": d, "credit": c, "description": text} for a, d, c in lines]
        self._keep([*self.journals, self._journal(company, on.isoformat(), text, entry)])
        if self.extracts:
            self.publish()

    def run(self) -> int:
        """Import what was dropped since; how many files that were."""
        with self._job:
            return 0 if self.asleep else self._run()

    def _run(self) -> int:
        done = {journal["file"] for journal in self.journals}
        new = [m for m in self.folder.delivered("out", recursive=True) if m.path not in done and not self._told(m)]
        words = [self._import(manifest) for manifest in new]
        if new and self.extracts:
            self.publish()
        for speak in words:
            speak()
        return len(new)

    @contextmanager
    def running(self, every: float = 0.005) -> Iterator[LegacyErp]:
        """Its job runs by itself while the block lasts."""
        ended = threading.Event()

        def job() -> None:
            while not ended.wait(every):
                self.run()

        thread = threading.Thread(target=job, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def publish(self) -> None:
        """Write the extracts: ledger, trial balances, periods, chart."""
        journals = self.journals
        for company in self.companies:
            own = [j for j in journals if j["company"] == company]
            rows = [
                {**{c: line.get(c, "") for c in (*_GL, *self.columns)}, "journal_id": j["id"], "line": n,
                 "journal_number": j["number"], "date": j["date"], "posted_on": j["date"],
                 "currency": self.companies[company], "reference": j["reference"], "narrative": j["narrative"],
                 "changed_at": j["at"]}
                for j in own for n, line in enumerate(j["lines"], 1)
            ]  # fmt: skip
            totals = {side: f"{sum((Decimal(r[side]) for r in rows), Decimal(0)):f}" for side in ("debit", "credit")}
            self._deliver(
                "gl", company, (*_GL, *self.columns), rows, **{"from": "1900-01-01", "until": "2999-12-31"}, **totals
            )
            for on in sorted({j["date"] for j in own}):
                self._deliver("tb", company, ("account", "debit", "credit"), _totals(own, on), on=on)
            self._deliver(
                "accounts", company, ("code", "name"), [{"code": c, "name": n} for c, n in self.accounts.items()]
            )
            self._deliver("periods", company, ("name", "start", "end", "state"), list(self._periods()))

    def _periods(self) -> Iterator[dict[str, str]]:
        for year in (2025, 2026):
            for month in range(1, 13):
                name, after = f"{year}-{month:02}", date(year + month // 12, month % 12 + 1, 1)
                end = date.fromordinal(after.toordinal() - 1)
                yield {
                    "name": name, "start": f"{name}-01", "end": end.isoformat(),
                    "state": "closed" if name in self.closed else "open",
                }  # fmt: skip

    def _import(self, manifest: Manifest) -> Callable[[], None]:
        """Take a journal in, or refuse it; gives what tells so."""
        content = self.folder.read(manifest.path) or b""
        rows = list(csv.reader(io.StringIO(content.decode())))
        (header,) = (row for row in rows if row[0] == "H")
        (names,) = (row for row in rows if row[0] == "#")
        lines = [dict(zip(names, row, strict=True)) for row in rows if row[0] == "L"]
        unknown = sorted({line["account"] for line in lines} - set(self.accounts))
        says = {"run_key": manifest.says["run_key"], "sha256": manifest.says["sha256"], "at": self.now().isoformat()}
        if header[4][:7] in self.closed:
            says |= {"reason": f"period {header[4][:7]} is closed", "code": "period_closed"}
        elif unknown:
            says |= {"reason": f"no account {unknown[0]}", "code": "account"}
        else:
            meant = self._journal(header[3], header[4], header[8], lines, narrative=header[6])
            self._keep([*self.journals, *({**journal, "file": manifest.path} for journal in self.twist(meant))])
            if self.unspoken:
                self.unspoken -= 1
                return lambda: None
            says |= {"document": meant["number"]}
        return partial(self._acknowledge, manifest, says)

    def _journal(
        self, company: str, on: str, reference: str, lines: list[dict[str, Any]], narrative: str = ""
    ) -> dict[str, Any]:
        number = len(self.journals) + 1
        return {
            "file": None, "company": company, "id": f"GL{number:06}", "number": f"JV-{number:06}", "date": on,
            "reference": reference, "narrative": narrative, "lines": lines, "at": self.now().isoformat(),
        }  # fmt: skip

    def _acknowledge(self, manifest: Manifest, says: Mapping[str, str]) -> None:
        name = manifest.path.rpartition("/")[2].removesuffix(".csv")
        self.folder.create(f"in/ack/{name}.{'ack' if 'document' in says else 'nack'}", _csv(_ACK, [says]))

    def _told(self, manifest: Manifest) -> bool:
        name = manifest.path.rpartition("/")[2].removesuffix(".csv")
        return any((self.root / "in" / "ack" / f"{name}.{ending}").exists() for ending in ("ack", "nack"))

    def _deliver(
        self, kind: str, company: str, columns: tuple[str, ...], rows: list[dict[str, Any]], **says: Any
    ) -> None:
        """A new file, in place of the ones two before it."""
        tag = f"{company}_{says.get('on', '')}_"
        path = f"in/{kind}/{tag}{self.now():%Y%m%dT%H%M%S%f}_{next(self._numbers):06}.csv"
        content = _csv(columns, rows)
        made = {"company": company, "made_at": self.now().isoformat(), "rows": len(rows), **says}
        self.folder.deliver(path, content, **made)
        for old in sorted((self.root / "in" / kind).glob(f"{tag}*.csv.ok"))[:-2]:
            old.unlink()
            old.with_suffix("").unlink()

    def _keep(self, journals: list[dict[str, Any]]) -> None:
        partial = self.books.with_suffix(".part")
        partial.write_text(json.dumps(journals))
        partial.replace(self.books)


def _totals(journals: Iterable[dict[str, Any]], on: str) -> list[dict[str, str]]:
    totals: dict[str, list[Decimal]] = {}
    for journal in journals:
        for line in journal["lines"] if journal["date"] <= on else ():
            total = totals.setdefault(line["account"], [Decimal(0), Decimal(0)])
            total[0] += Decimal(line["debit"])
            total[1] += Decimal(line["credit"])
    return [{"account": a, "debit": f"{d:f}", "credit": f"{c:f}"} for a, (d, c) in sorted(totals.items())]


def _csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
