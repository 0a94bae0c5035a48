"""The accountants' manual entries, made the way a person makes them: through the ERP, as their user."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from tieout.erp.jsonrpc import JsonRpc
from tieout.settings import Connection
from tieout_sandbox.company.model import ErpMove
from tieout_sandbox.tryton import chart

JOURNAL = "MAN"


def post_manual_moves(connection: Connection, moves: Iterable[ErpMove]) -> int:
    """Post the moves that are not there yet, known by company, date and description. Returns how many were posted."""
    rpc = JsonRpc(connection, timeout=(10, 120), tries=3, pause=0.5)
    try:
        rpc.login()
        ordered = sorted(moves, key=lambda move: (move.legal_entity_id, move.visible_at, move.key))
        by_entity = groupby(ordered, key=lambda move: move.legal_entity_id)
        return sum(_post(rpc, entity, list(theirs)) for entity, theirs in by_entity)
    finally:
        rpc.close()


def count_moves(connection: Connection) -> dict[str, int]:
    """How many moves the ERP holds per company, drafts included, whoever made them."""
    rpc = JsonRpc(connection, timeout=(10, 120), tries=3, pause=0.5)
    try:
        rpc.login()
        return {
            company["id"]: rpc.read(
                "model.account.move.search_count",
                [("company.party.code", "=", company["id"])],
                context={"language": "en"},
            )
            for company in chart.COMPANIES
        }
    finally:
        rpc.close()


def _post(rpc: JsonRpc, entity: str, moves: list[ErpMove]) -> int:
    def search(model: str, domain: list[Any], fields: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = rpc.read(
            f"model.{model}.search_read", domain, 0, None, None, fields, context={"language": "en"}
        )
        return rows

    (company,) = search("company.company", [("party.code", "=", entity)], ["id"])
    context = {"company": company["id"], "language": "en"}
    (journal,) = search("account.journal", [("code", "=", JOURNAL)], ["id"])
    accounts = {
        row["code"]: row["id"]
        for row in search("account.account", [("company", "=", company["id"]), ("code", "!=", None)], ["code"])
    }
    periods = search("account.period", [("company", "=", company["id"])], ["start_date", "end_date"])
    domain = [("company", "=", company["id"]), ("description", "in", [move.description for move in moves])]
    present = search("account.move", domain, ["date", "description", "state"])
    known = {(row["date"], row["description"]) for row in present}
    missing = [
        {
            "company": company["id"],
            "journal": journal["id"],
            "period": next(p["id"] for p in periods if p["start_date"] <= move.date <= p["end_date"]),
            "date": move.date,
            "description": move.description,
            "lines": [
                [
                    "create",
                    [
                        {
                            "account": accounts[line.account],
                            "debit": line.debit,
                            "credit": line.credit,
                            "description": line.text or None,
                        }
                        for line in move.lines
                    ],
                ]
            ],
        }
        for move in moves
        if (move.date, move.description) not in known
    ]
    drafts = [row["id"] for row in present if row["state"] == "draft"]
    if missing:
        drafts += rpc.write("model.account.move.create", missing, context=context)
    if drafts:
        rpc.write("model.account.move.post", drafts, context=context)
    return len(drafts)


def accountant_connection(url: str, database: str, password: str) -> Connection:
    """How the accountant logs in."""
    return Connection("tryton_accountant", url, chart.ACCOUNTANT, password, database)
