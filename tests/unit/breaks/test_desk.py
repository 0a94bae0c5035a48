"""`tieout breaks`: found, shown, decided about, one by one and in bulk, on the payments reconciliation."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from dataclasses import replace
from datetime import date, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.store.batches import select_batches
from tieout.store.break_acts import Act, Pair, consider
from tieout.store.breaks import break_id

runner = CliRunner()
DAY = date(2026, 3, 29)
NAME = "payment_to_invoice"


ACME = {"customer_id": "crm:A", "customer_source_id": "A"}


def invoice(number):
    return ACME | {
        "source_id": f"in_{number}", "number": number, "status": "open", "subtotal": 100, "tax": 0, "total": 100,
        "amount_paid": 0, "amount_remaining": 100,
    }  # fmt: skip


def payment(number, amount):
    return ACME | {"source_id": number, "status": "succeeded", "amount": amount, "allocated": 0}


def payments(house, *invoices):
    """Invoice I-1 is open and fits the payment P-1; nobody knows P-2 and P-3."""
    house.put("customer", {"source_id": "A", "name": "Acme"})
    house.put("invoice", invoice("I-1"), *invoices)
    house.put("payment", payment("P-1", 100), payment("P-2", 7), payment("P-3", 30))
    house.put("payment_allocation")


@pytest.fixture(scope="module")
def after_a_night(new_house, tmp_path_factory):
    """Where the night has been, once for all tests here: each goes on from a copy."""
    folder = tmp_path_factory.mktemp("night")
    house = new_house(folder)
    payments(house)
    house.run(NAME)
    return folder, house.runs


@pytest.fixture(autouse=True)
def night(house, after_a_night, tmp_path, monkeypatch):
    for name in ("TIEOUT_STORE", "TIEOUT_LAKE", "AIRFLOW_CONN_TIEOUT_STORE", "TIEOUT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    folder, house.runs = after_a_night
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)


def tieout(*words: str, code: int = 0) -> str:
    result = runner.invoke(app, ["breaks", *words])
    assert result.exit_code == code, result.output
    return result.output


def refused(*words: str) -> str:
    result = runner.invoke(app, ["breaks", *words])
    assert result.exit_code == 1
    return result.output + str(result.exception)


def listed(*words: str) -> list[tuple[str, str]]:
    return [(row["break_key"], row["state"]) for row in json.loads(tieout("list", "--json", *words))]


def identity(key: str) -> str:
    return break_id(NAME, "US", key, 1)


def test_breaks_are_listed_by_what_is_asked_the_largest_first(house):
    assert listed() == [("P-1", "open"), ("P-3", "open"), ("P-2", "open")]
    assert listed("--type", "suggested_match", "--owner", "accounts receivable") == [("P-1", "open")]
    assert listed("--min-amount", "30") == [("P-1", "open"), ("P-3", "open")]
    assert listed("--min-amount", "30.000001") == [("P-1", "open")]
    assert listed("--min-age", "1") == listed("--entity", "DE") == listed("--state", "assigned") == []
    assert "not priced" not in tieout("list")
    assert "3 breaks, 1 shown" in tieout("list", "--limit", "1")


def test_a_question_that_can_find_nothing_is_told_from_one_that_found_nothing(house):
    assert "no such reconciliation; expected: case_to_contract, " in refused("list", "--definition", "payments")
    assert "no such reconciliation" in refused("assign", "--definition", "payments", "--to", "anna")
    assert listed("--definition", "case_to_contract") == listed("--definition", "journal_read_back") == []
    assert listed("--currency", "usd", "--limit", "1") == [("P-1", "open")]
    assert "3 breaks on 2026-03-29" in tieout("--business-date", "2026-03-29")
    assert "no row was reconciled on 2026-03-28" in refused("--business-date", "2026-03-28")
    assert "no row was reconciled" in refused("--business-date", "2026-03-29", "--definition", "case_to_contract")


def test_a_match_of_more_rows_than_a_verdict_can_hold_is_refused(house):
    one = identity("P-1")
    many = Pair("; ".join(f"I-{n:04}" for n in range(400)), "P-1", None, None)
    with house.store.reading() as session:
        done = consider(session, Act("accept", "anna", pairs={one: many}), [one])
    assert "too many rows to be accepted as one" in done.refused[0].reason


def test_who_does_something_is_named(house):
    assert "say who does it" in refused("assign", identity("P-2"), "--to", "anna", "--as", "")
    assert "a name is too long" in refused("assign", identity("P-2"), "--to", "a" * 201)


def test_one_break_is_shown_with_its_rows_and_its_history(house):
    shown = json.loads(tieout("show", identity("P-1")[:12].upper(), "--json"))
    assert shown["found"]["left_ids"] == "I-1"
    assert [row["number"] for row in shown["rows"]["left"]] == ["I-1"]
    assert [row["payment_id"] for row in shown["rows"]["right"]] == ["P-1"]
    told = tieout("show", identity("P-1"))
    assert "Payment P-1 of Acme over 100.00 USD" in told
    assert "difference: 0.00 USD" in told
    assert "recorded new → open" in told


def test_a_resolution_keeps_its_evidence_by_content_and_a_break_still_there_opens_again(house, tmp_path):
    proof = tmp_path / "mail.eml"
    proof.write_text("we sent it twice")
    one = identity("P-2")
    assert "Missing option" in tieout("resolve", one, "--reason", "x", code=2)
    tieout("resolve", one, "--as", "anna", "--reason", "refunded", "--evidence", str(proof))
    digest = hashlib.sha256(b"we sent it twice").hexdigest()
    kept = tmp_path / "evidence" / "breaks" / digest[:2] / digest
    assert kept.read_text() == "we sent it twice"
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o400
    (act,) = house.store.audit_entries(subject=one)
    assert (act.action, act.actor, act.payload["evidence"][0]["sha256"]) == ("break.resolve", "anna", digest)
    house.run(NAME)  # the same date again: the decision stands
    assert ("P-2", "resolved") in listed("--state", "resolved")
    house.run(NAME, DAY + timedelta(days=1))
    assert ("P-2", "open") in listed()
    assert "resolved → open: found again" in tieout("show", one, "--no-rows")


def test_a_known_difference_opens_again_when_it_expires(house):
    one = identity("P-3")
    assert "give a cap" in refused("known", one, "--reason", "x", "--until", "2026-03-30")
    assert "beyond the cap" in refused("known", one, "--reason", "x", "--until", "2026-03-30", "--cap", "29.99 usd")
    assert "such as 1200.00" in refused("known", one, "--reason", "x", "--until", "2026-03-30", "--cap", "1,200 USD")
    tieout("known", one, "--reason", "paid in cash", "--until", "2026-03-30", "--cap", "30 USD", "--by", "anna")
    house.run(NAME, DAY + timedelta(days=1))
    assert listed("--state", "known_difference") == [("P-3", "known_difference")]
    house.run(NAME, DAY + timedelta(days=2))
    assert ("P-3", "open") in listed()
    assert "expired on 2026-03-30" in tieout("show", one, "--no-rows")


def test_an_accepted_match_settles_at_the_next_run_and_one_taken_back_waits_again(house):
    one = identity("P-1")
    tieout("accept", one, "--as", "anna")
    assert "accepted, settles at the next run" in tieout("list")
    found = house.run(NAME, DAY + timedelta(days=1))
    (match,) = found.matches.to_pylist()
    assert (match["pass_name"], match["left_ids"], match["right_ids"]) == ("accepted", "I-1", "P-1")
    assert match["tolerated"] == "accepted by anna"
    assert listed("--state", "resolved") == [("P-1", "resolved")]
    tieout("withdraw", one, "--reason", "it was another customer's")
    house.run(NAME, DAY + timedelta(days=2))
    assert ("P-1", "open") in listed("--type", "suggested_match")


def test_an_accepted_match_whose_amount_changed_waits_again(house):
    tieout("accept", identity("P-1"))
    house.put("payment", payment("P-1", 90))
    found = house.run(NAME, DAY + timedelta(days=1))
    assert found.matches.num_rows == 0


def test_a_rejected_match_is_not_suggested_again_and_says_why(house):
    assert "Missing option" in tieout("reject", identity("P-1"), code=2)
    tieout("reject", identity("P-1"), "--as", "ben", "--reason", "not theirs")
    found = house.run(NAME, DAY + timedelta(days=1))
    assert {(b["break_key"], b["break_type"]) for b in found.breaks.to_pylist()} == {
        ("P-1", "missing_left"), ("P-2", "missing_left"), ("P-3", "missing_left"),
    }  # fmt: skip
    assert ("P-1", "open") in listed()


def test_of_several_candidates_one_is_accepted_by_name(house):
    payments(house, invoice("I-2"))
    found = house.run(NAME, DAY + timedelta(days=1))
    kinds = {b["break_key"]: (b["break_type"], b["rivals"]) for b in found.breaks.to_pylist()}
    assert kinds["P-1"][0] in ("ambiguous", "suggested_match")
    if kinds["P-1"][0] == "ambiguous":
        assert "name one of the candidates" in refused("accept", identity("P-1"))
    assert "name one of the candidates" in refused("accept", identity("P-1"), "--with", "I-9")
    tieout("accept", identity("P-1"), "--with", "I-2")
    (match,) = house.run(NAME, DAY + timedelta(days=2)).matches.to_pylist()
    assert (match["left_ids"], match["right_ids"]) == ("I-2", "P-1")


def changed_pass(house, tmp_path, **changes):
    """Let the second pass of the definition be another one."""
    shutil.copytree(house.settings.config, tmp_path / "config")
    file = tmp_path / "config" / "reconciliations" / f"{NAME}.yaml"
    rules = yaml.safe_load(file.read_text())
    searched = {
        n: v for n, v in rules["passes"][1].items() if n not in ("rivals", "accept", *changes.get("without", ()))
    }
    rules["passes"][1] = searched | {n: v for n, v in changes.items() if n != "without"}
    file.write_text(yaml.safe_dump(rules))
    house.settings = replace(house.settings, config=tmp_path / "config")


def test_a_candidate_of_a_fuzzy_pass_is_named_by_its_id_alone(house, tmp_path, monkeypatch):
    monkeypatch.setenv("TIEOUT_CONFIG", str(tmp_path / "config"))
    changed_pass(house, tmp_path, method="fuzzy", prior="0.9", accept="suggested")
    payments(house, invoice("I-2"))
    found = house.run(NAME, DAY + timedelta(days=1))
    (ambiguous,) = (b for b in found.breaks.to_pylist() if b["break_type"] == "ambiguous")
    assert ambiguous["rivals"].startswith("I-1 (")
    assert "name one of the candidates" in refused("accept", identity("P-1"), "--with", "I-9")
    tieout("accept", identity("P-1"), "--with", "I-2")
    (match,) = house.run(NAME, DAY + timedelta(days=2)).matches.to_pylist()
    assert (match["left_ids"], match["right_ids"]) == ("I-2", "P-1")


def test_a_candidate_beyond_those_that_are_listed_may_be_named(house):
    payments(house, *(invoice(f"I-{n}") for n in range(10, 70)))
    found = house.run(NAME, DAY + timedelta(days=1))
    (ambiguous,) = (b for b in found.breaks.to_pylist() if b["break_type"] == "ambiguous")
    assert ambiguous["rivals"].endswith("; I-28; …")
    assert "name one of the candidates" in refused("accept", identity("P-1"), "--with", "I-99")
    tieout("accept", identity("P-1"), "--with", "I-69")
    (match,) = house.run(NAME, DAY + timedelta(days=2)).matches.to_pylist()
    assert (match["left_ids"], match["right_ids"]) == ("I-69", "P-1")


def test_several_candidates_that_add_up_are_accepted_together(house, tmp_path, monkeypatch):
    monkeypatch.setenv("TIEOUT_CONFIG", str(tmp_path / "config"))
    changed_pass(house, tmp_path, method="subset", cardinality="N:1", without=("identity",))
    payments(house, invoice("I-2"), invoice("I-3"))
    house.put("payment", payment("P-4", 200))
    found = house.run(NAME, DAY + timedelta(days=1))
    (ambiguous,) = found.breaks.to_pylist()
    assert (ambiguous["break_key"], ambiguous["rivals"]) == ("P-4", "I-1; I-2; I-3")
    tieout("accept", identity("P-4"), "--with", "I-3", "--with", "I-1")
    (match,) = house.run(NAME, DAY + timedelta(days=2)).matches.to_pylist()
    assert (match["left_ids"], match["right_ids"], match["difference"]) == ("I-1; I-3", "P-4", 0)


def test_many_breaks_are_shown_first_and_done_with_the_mark_that_showing_them_gave(house):
    words = ("assign", "--definition", NAME, "--type", "missing_left", "--to", "carla")
    dry = tieout(*words)
    assert "2 would be open → assigned" in dry
    assert "worth 37.00 USD in all" in dry
    assert listed("--state", "assigned") == []
    mark = dry.split("--apply ")[1].strip()
    tieout("comment", identity("P-2"), "--text", "asked the bank")
    tieout(*words, "--apply", mark)
    assert listed("--state", "assigned") == [("P-3", "assigned"), ("P-2", "assigned")]
    assert "not what the dry run showed" in refused(*words, "--apply", mark)
    assert house.store.verify_audit(f"breaks/{NAME}") == []


def test_the_mark_of_a_dry_run_holds_for_the_rows_and_the_evidence_it_showed_only(house, tmp_path):
    words = ("accept", "--definition", NAME, "--type", "suggested_match")
    mark = tieout(*words).split("--apply ")[1].strip()
    house.put("invoice", invoice("I-2"))  # takes the place of I-1, for the same amount
    house.run(NAME, DAY + timedelta(days=1))
    assert "not what the dry run showed" in refused(*words, "--apply", mark)
    proofs = [tmp_path / name for name in ("one.txt", "two.txt")]
    for proof in proofs:
        proof.write_text(proof.name)
    words = ("resolve", "--definition", NAME, "--reason", "refunded", "--evidence")
    mark = tieout(*words, str(proofs[0])).split("--apply ")[1].strip()
    assert "not what the dry run showed" in refused(*words, str(proofs[1]), "--apply", mark)
    assert "3 open → resolved" in tieout(*words, str(proofs[0]), "--apply", mark)


def test_a_list_of_breaks_is_done_whole_or_not_at_all_unless_said_otherwise(house, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(f"note,break_id\nx,{identity('P-2')}\ny,{identity('P-1')}\nz,{'f' * 32}\n")
    words = ("accept", "--csv", str(file))
    told = refused(*words)
    assert "it is no suggested match" in told
    assert "no break has this id" in told
    partly = tieout(*words, "--partly")
    tieout(*words, "--partly", "--apply", partly.split("--apply ")[1].split()[0])
    assert [a.subject for a in house.store.audit_entries(f"breaks/{NAME}") if a.action == "break.accept"] == [
        identity("P-1")
    ]


def test_a_list_of_breaks_may_hold_ids_as_they_are_shown_and_come_from_any_spreadsheet(house, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(f"break_id;note\n{identity('P-2')[:12]};x\n{identity('P-3')};y\n")
    assert "2 would be open → assigned" in tieout("assign", "--csv", str(file), "--to", "anna")
    file.write_text(f"break_id\n{identity('P-2')[:12]}\nffffffffffff\n")
    assert "ffffffffffff  no break has this id" in refused("assign", "--csv", str(file), "--to", "anna")
    file.write_bytes("break_id\né\n".encode("latin-1"))
    assert "not in UTF-8" in refused("assign", "--csv", str(file), "--to", "anna")


def test_the_preview_of_a_run_counts_what_people_accepted(house):
    tieout("accept", identity("P-1"))
    said = runner.invoke(app, ["reconcile", NAME, "--business-date", "2026-03-30"])
    assert json.loads(said.output)["matched"] == 1


def test_a_write_off_needs_a_second_person_and_is_taken_back_with_its_journal(house):
    one = identity("P-2")
    assert "differ in no amount" in refused("write-off", identity("P-1"), "--reason", "too small")
    tieout("write-off", one, "--as", "anna", "--reason", "too small")
    assert "may not approve" in refused("approve-write-off", one, "--as", "anna")
    told = tieout("approve-write-off", one, "--as", "ben")
    assert f"write_off-{one[:8]}/2026-03-29/v1  7.00 USD  waits for the approval of a third person" in told
    assert "write off pending" in refused("assign", one, "--to", "carla")
    tieout("reopen", one, "--reason", "it was paid after all")
    assert ("P-2", "open") in listed()
    with house.store.reading() as session:
        assert [b.state for b in select_batches(session)] == ["rejected_by_approver"]


def test_small_breaks_that_add_up_are_watched(house, tmp_path):
    shutil.copytree(house.settings.config, tmp_path / "config")
    file = tmp_path / "config" / "reconciliations" / f"{NAME}.yaml"
    file.write_text(file.read_text() + "materiality: {USD: 50}\nimmaterial_limit: {USD: 36.99}\n")
    house.settings = replace(house.settings, config=tmp_path / "config")
    house.run(NAME, DAY + timedelta(days=1))
    rows = house.lake.read("breaks_forward", house.store.published()["breaks_forward"]).to_pylist()
    watched = {r["business_date"]: (r["immaterial_breaks"], r["immaterial_value"], r["is_watched"]) for r in rows}
    assert watched == {DAY: (0, 0, False), DAY + timedelta(days=1): (2, 37, True)}


def test_a_changed_definition_is_tried_on_past_dates_as_their_tables_were(house, tmp_path):
    house.store.finish_run("run-1", "success")
    house.put("invoice", invoice("I-7"))  # later; the past date keeps its own
    file = tmp_path / f"{NAME}.yaml"
    shipped = house.settings.config_file(f"reconciliations/{NAME}.yaml").read_text()
    file.write_text(shipped.replace("accept: suggested", "accept: only_if_unambiguous"))
    before = house.store.published()
    words = ["simulate", NAME, "--with", str(file), "--from-date", "2026-03-28", "--to-date", "2026-03-30", "--json"]
    result = runner.invoke(app, ["reconcile", *words])
    (day,) = json.loads(result.output)
    assert day["business_date"] == "2026-03-29"
    assert [(r["kind"], r["change"], r["was"], r["is"], r["value"]) for r in day["summary"]] == [
        ("break", "lost", "suggested_match", None, "100.000000"),
        ("match", "gained", None, "by_customer_and_amount", "100.000000"),
    ]
    assert house.store.published() == before
