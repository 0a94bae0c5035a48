"""What the demo must show: every planted break and no other, journals posted once, no credential anywhere."""

import json
import sqlite3
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.server, pytest.mark.timeout(1600)]

FIELDS = {
    "business_date", "extracted", "conformed", "quarantined", "breaks", "precision", "recall", "journals",
    "trial_balance_ties", "seconds",
}  # fmt: skip


def test_it_covers_three_nights_and_the_month_end(demo):
    assert [r["business_date"] for r in demo.summary["runs"]] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    assert demo.summary["month_end"]["period"] == "2026-03"
    for run in demo.summary["runs"]:
        assert set(run) >= FIELDS


def test_every_planted_break_is_found_and_none_invented(demo):
    for run in demo.summary["runs"]:
        wrong = {t: c for t, c in run["breaks"].items() if c["found"] != c["planted"] or c["invented"]}
        assert wrong == {}, run["business_date"]
        assert (run["precision"], run["recall"]) == (1, 1)


def test_the_answer_key_is_not_empty(demo):
    assert sum(c["planted"] for c in demo.summary["runs"][-1]["breaks"].values()) >= 13


def test_every_record_extracted_is_conformed_or_quarantined(demo):
    for run in demo.summary["runs"]:
        assert run["extracted"] == run["conformed"] + run["quarantined"]
    assert demo.summary["runs"][0]["extracted"] > 1000
    assert sum(run["quarantined"] for run in demo.summary["runs"]) > 0


def test_every_journal_is_read_back(demo):
    for run in (*demo.summary["runs"], demo.summary["month_end"]):
        for entity, counts in run["journals"].items():
            assert counts["posted"] == counts["read_back"], (run, entity)
    posted = {e for run in demo.summary["runs"] for e, c in run["journals"].items() if c["posted"]}
    assert posted == {"US", "DE", "JP"}


def test_the_trial_balance_ties_to_the_cent(demo):
    assert [run["trial_balance_ties"] for run in demo.summary["runs"]] == [True, True, True]
    assert demo.summary["month_end"]["trial_balance_ties"] is True


def test_a_second_pass_posts_nothing(demo):
    assert demo.summary["posted_on_second_run"] == 0
    assert "nothing posted" in demo.output


def test_everything_is_stopped_at_the_end(demo):
    left = [
        p.info for p in psutil.process_iter(["pid", "cmdline"]) if str(demo.run) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []


def test_the_run_folder_belongs_to_its_owner_alone(demo):
    for folder in (demo.run, demo.run / "sandbox", demo.run / "airflow"):
        assert folder.stat().st_mode & 0o077 == 0, folder
    assert (demo.run / "airflow" / "passwords.json").stat().st_mode & 0o077 == 0
    assert not (demo.run / "sandbox" / "connections.json").exists()


def secrets_of(demo) -> dict[str, bytes]:
    """Every credential of the demo by the name of its place."""
    found = {name: json.loads(text).get("password") for name, text in demo.connections.items()}
    found |= json.loads((demo.run / "airflow" / "passwords.json").read_text())
    return {name: value.encode() for name, value in found.items() if value}


def files_below(folder: Path):
    return (path for path in folder.rglob("*") if path.is_file())


def test_no_credential_is_in_any_log_report_or_file_of_the_data_root(demo):
    secrets = secrets_of(demo)
    assert len(secrets) >= 6
    searched = [
        *files_below(demo.data),
        *files_below(demo.run / "airflow" / "logs"),
        *(demo.run / "airflow").glob("*.log"),
    ]
    assert len(searched) > 100
    leaks = [(str(path), name) for path in searched for name, secret in secrets.items() if secret in path.read_bytes()]
    assert leaks == []
    assert not any(secret.decode() in demo.output for secret in secrets.values())


def test_no_credential_travels_through_xcom_which_holds_references_only(demo):
    with sqlite3.connect(f"file:{demo.run / 'airflow' / 'airflow.db'}?mode=ro", uri=True) as metadata:
        values = [str(row[0]) for row in metadata.execute("SELECT value FROM xcom")]
        rendered = [
            str(row[0]) for row in metadata.execute("SELECT rendered_fields FROM rendered_task_instance_fields")
        ]
    assert values
    for secret in secrets_of(demo).values():
        assert not any(secret.decode() in value for value in (*values, *rendered))
    assert max(map(len, values)) < 20_000
