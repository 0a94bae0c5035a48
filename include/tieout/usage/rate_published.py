"""The rating step of a run: the price book of what billing has, and what all usage should have cost by it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout import schema
from tieout.entities import load_entities
from tieout.errors import ConfigError
from tieout.lake.engine import Engine, engine
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.usage.agreements import published_agreements
from tieout.usage.price_books import PriceBook, csv_price_book, stripe_price_book, zuora_files
from tieout.usage.rating import rate
from tieout.usage.unused import unused_periods

_INPUTS = ("usage_summary", "subscription", "subscription_item", "former_price")
_ZUORA_CHARGES, _ZUORA_TIERS = "RatePlanCharge", "RatePlanChargeTier"
ALWAYS = (date(1900, 1, 1), date(9999, 1, 1))
"""Every billing period there may be."""


def published_book(lake: Lake, snapshot: Mapping[str, int], settings: Settings, session: Engine) -> PriceBook:
    """The prices of published subscription items, and those of the configuration's folder `price_books`.

    There, each CSV file has columns of `price_book`; in its folder `zuora` each `RatePlanCharge….csv` is Zuora's export
    of charges, and `RatePlanChargeTier….csv` that of their tiers. Raises ConfigError where the latter is not there.
    """
    items, prices, tiers, former = (
        lake.files(name, snapshot[name]) if name in snapshot else []
        for name in ("subscription_item", "price", "price_tier", "former_price")
    )
    books = [stripe_price_book(items, prices, tiers, former=former, session=session)]
    books += [csv_price_book(path, session=session) for path in settings.config_files("price_books", ".csv")]
    books += [zuora_files(*pair, session=session) for pair in zuora_exports(settings)]
    return PriceBook(*(pa.concat_tables([getattr(b, c) for b in books]) for c in ("rows", "quarantined")))


def zuora_exports(settings: Settings) -> list[tuple[Path, Path]]:
    """The exports of charges in the folder `price_books/zuora`, each with that of its tiers.

    Raises ConfigError where the latter is not there.
    """
    exports = {path.name: path for path in settings.config_files("price_books/zuora", ".csv")}
    found = []
    for name in sorted(exports):
        if name.startswith(_ZUORA_CHARGES) and not name.startswith(_ZUORA_TIERS):
            its_tiers = name.replace(_ZUORA_CHARGES, _ZUORA_TIERS, 1)
            if its_tiers not in exports:
                raise ConfigError(
                    "an export of charges needs that of their tiers", record=str(exports[name]), expected=its_tiers
                )
            found.append((exports[name], exports[its_tiers]))
    return found


def publish_rating(*, lake: Lake, store: Store, settings: Settings, run_id: str) -> dict[str, int]:
    """Rate the published usage by the prices of its subscriptions; returns the counts.

    Beside what billing knows, the price book has what the files of the configuration's folder `price_books` say, such
    as list prices, prices agreed on paper, or those of another billing system. Billing periods that ended by the run's
    business date without usage are rated with quantity 0 where a price charges for them all the same.

    Of a run with a business date, what rated usage owes to commitments and takes from prepaid credit by that day is
    worked out too (`published_agreements`).

    Publishes `price_book`, `price_quarantine`, `rated_lines`, `unrated_usage`, and the tables of those agreements.
    """
    snapshot = store.published()
    files = {name: lake.files(name, snapshot[name]) if name in snapshot else [] for name in _INPUTS}
    with engine(settings) as session:
        book = published_book(lake, snapshot, settings, session)
        usage = list(files["usage_summary"])
        run = store.run(run_id)
        if run and run.business_date:
            unused = unused_periods(usage, book.rows, files["subscription"], files["subscription_item"],
                                    former_prices=files["former_price"],
                                    entities=load_entities(settings.config_file("entities.yaml")),
                                    until=run.business_date, out=session.scratch / "unused.parquet",
                                    session=session)  # fmt: skip
            usage.append(str(unused))
        rated = rate(usage, book.rows, ALWAYS, subscriptions=files["subscription"],
                     out=session.scratch / "rated", session=session)  # fmt: skip
        session.bind("made_lines", rated.lines)
        lines = int(session.scalar("SELECT count(*) FROM made_lines"))
        shape = schema.table("rated_lines")
        ordered = f"SELECT {', '.join(shape.names)} FROM made_lines ORDER BY {', '.join(shape.key)}"
        made = session.copy(ordered, session.scratch / "rated_lines.parquet")
        agreed = published_agreements(
            [str(made)], settings, run.business_date if run and run.business_date else date(1900, 1, 1), session=session
        )
        aside = pa.concat_tables([book.quarantined, agreed.quarantined])
        versions = {
            "price_book": lake.write("price_book", book.rows),
            "price_quarantine": lake.write("price_quarantine", aside),
            # the same lines are the same bytes
            "rated_lines": lake.write("rated_lines", made),
            "unrated_usage": lake.write("unrated_usage", rated.quarantined),
            **{name: lake.write(name, rows) for name, rows in agreed.tables.items()},
        }
    store.publish(run_id, versions, {"step": "rating"})
    return {
        "prices": book.rows.num_rows,
        "prices_quarantined": aside.num_rows,
        "lines": lines,
        "unrated": rated.quarantined.num_rows,
    }
