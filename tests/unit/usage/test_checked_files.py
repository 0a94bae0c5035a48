"""What `tieout config check` tells of the CSV files with prices and agreements: file, line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.orchestration.checks import check_configuration
from tieout.settings import Settings
from tieout.usage.checks import mistakes

PRICE = "meter,price_source_id,model,tier_no,up_to,unit_amount,currency,valid_from\n"
COMMITMENT = "commitment_id,subscription_source_id,term_start,term_end,amount,currency\n"
CREDIT = "credit_id,subscription_source_id,amount,currency,granted_on,expires_on\n"


def settings(folder: Path) -> Settings:
    return Settings(home=folder / "home", config=folder, lake=str(folder / "lake"), store="sqlite://")


def found(folder: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [str(m).replace(f"{folder}/", "") for m in mistakes(settings(folder))]


CASES = {
    "nothing wrong": (
        {"price_books/a.csv": f"{PRICE}api,p,unit,1,,0.5,USD,2026-01-01\n",
         "commitments/a.csv": f"{COMMITMENT}c,sub,2026-01-01,2027-01-01,100,USD\n",
         "prepaid_credits/a.csv": f"{CREDIT}k,sub,100,USD,2026-01-01,\n"},
        [],
    ),
    "a number": (
        {"price_books/a.csv": f"{PRICE}api,fine,unit,1,,0.5,USD,\n\napi,bad,unit,1,,ten,USD,\n"},
        [("price_books/a.csv, line 4", "unit_amount: ten", "write a plain number")],
    ),
    "one mistake in many lines": (
        {"price_books/a.csv": PRICE + "".join(f"api,p{n},unit,1,,1,USD,1.1.2026\n" for n in range(9))},
        [("price_books/a.csv, lines 2, 3, 4, 5, 6 and 4 more", "valid_from: 1.1.2026", "YYYY-MM-DD")],
    ),
    "a row after a cell of two lines": (
        {"price_books/a.csv": f'{PRICE}"a\npi",p,unit,1,,1,USD,\napi,q,steep,1,,1,USD,\n'},
        [("price_books/a.csv, line 4", "flat, unit", "write flat, unit")],
    ),
    "no such currency": (
        {"price_books/a.csv": f"{PRICE}api,p,unit,1,,1,USD,\napi,q,unit,1,,1,usd,\n"},
        [("price_books/a.csv, line 3", "no ISO 4217 currency", "such as EUR")],
    ),
    "tiers with a gap": (
        {"price_books/a.csv": f"{PRICE}api,p,graduated,1,10,1,USD,\napi,p,graduated,3,,1,USD,\n"},
        [("price_books/a.csv, line 3", "tiers", "number the tiers")],
    ),
    "one price in two files": (
        {f"price_books/{name}.csv": f"{PRICE}api,p,unit,1,,1,USD,\n" for name in "ab"},
        [("price_books/a.csv, line 2", "tiers", "one file"), ("price_books/b.csv, line 2", "tiers", "one file")],
    ),
    "a strange column": (
        {"commitments/a.csv": f"{COMMITMENT.strip()},discount\n"},
        [("commitments/a.csv", "discount", "heading")],
    ),
    "a missing column": (
        {"prepaid_credits/a.csv": "credit_id,amount\n"},
        [("prepaid_credits/a.csv", "columns are missing", "heading")],
    ),
    "no table": (
        {"prepaid_credits/a.csv": f"{CREDIT}k,sub,100\n"},
        [("prepaid_credits/a.csv", "cannot be read as CSV", "as many cells")],
    ),
    "an empty file": (
        {"price_books/a.csv": ""},
        [("price_books/a.csv", "cannot be read as CSV", "as many cells")],
    ),
    "agreements that cannot be": (
        {"commitments/a.csv": f"{COMMITMENT}c,sub,2027-01-01,2026-01-01,100,USD\nd,,2026-01-01,2027-01-01,1,USD\n",
         "prepaid_credits/a.csv": f"{CREDIT}k,sub,1,USD,2026-01-01,\n", "prepaid_credits/b.csv":
         f"{CREDIT}k,sub,1,USD,2026-01-01,\nl,sub,-1,USD,2026-01-01,\n"},
        [("commitments/a.csv, line 2", "ends before it begins", "end after"),
         ("commitments/a.csv, line 3", "missing", "fill in"),
         ("prepaid_credits/a.csv, line 2", "another row has its id", "id of its own"),
         ("prepaid_credits/b.csv, line 2", "another row has its id", "id of its own"),
         ("prepaid_credits/b.csv, line 3", "negative", "positive")],
    ),
    "an export without its tiers": (
        {"price_books/zuora/RatePlanCharge.csv": "Id\n1\n"},
        [("price_books/zuora/RatePlanCharge.csv", "that of their tiers", "RatePlanChargeTier.csv")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "told"), CASES.values(), ids=CASES)
def test_a_mistake_is_told_with_its_file_and_line_and_what_to_do(
    tmp_path: Path, files: dict[str, str], told: list[tuple[str, str, str]]
) -> None:
    texts = found(tmp_path, files)
    assert len(texts) == len(told), texts
    for text, parts in zip(texts, told, strict=True):
        assert all(part in text for part in parts), text
        assert f"record: {parts[0]};" in text or text.endswith(parts[0]), text


def test_the_check_of_a_configuration_tells_them(tmp_path: Path) -> None:
    (tmp_path / "price_books").mkdir()
    (tmp_path / "price_books" / "list.csv").write_text(f"{PRICE}api,bad,unit,1,,ten,USD,\n")
    told = [str(p) for p in check_configuration(settings(tmp_path)) if "list.csv, line 2" in str(p)]
    assert len(told) == 1
