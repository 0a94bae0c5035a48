"""What each kind of document posts: the event table of the posting rules over canonical rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

D29, D30, D31 = date(2026, 3, 29), date(2026, 3, 30), date(2026, 3, 31)
RECEIVABLE, DEFERRED, TAX, SEATS, USAGE = "11000", "21000", "22000", "40100", "40300"
CLEARING, CREDIT, TRANSIT, BANK, FEES, BAD_DEBT = "10100", "23000", "10150", "10000", "60100", "60200"


def posted(books: Any, day: date = D31) -> dict[str, Decimal]:
    assert set(books.post(books.plan(day))) <= {"posted"}
    found: dict[str, Decimal] = books.balances()
    return found


def test_an_invoice_ahead_defers_and_a_delivered_one_is_revenue(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100", "tax": "8.25", "start": D29, "end": date(2026, 4, 29)})
    books.invoice("B", D29, {"amount": "40", "family": "usage", "start": date(2026, 2, 28), "end": D29})
    assert posted(books) == {
        RECEIVABLE: Decimal("148.25"), DEFERRED: Decimal("-100"), TAX: Decimal("-8.25"), USAGE: Decimal("-40"),
    }  # fmt: skip


def test_a_negative_invoice_becomes_the_customers_credit(books: Any) -> None:
    books.invoice("A", D29, {"amount": "-60", "tax": "-6", "start": D29, "end": date(2026, 4, 29)})
    plan = books.plan(D29)
    books.post(plan)
    assert books.balances() == {CREDIT: Decimal("-66"), DEFERRED: Decimal("60"), TAX: Decimal("6")}
    assert not [r for r in plan.journals.lines.to_pylist() if r["description"].endswith("taken back")]


def test_credit_pays_an_invoice_when_it_becomes_final(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"}, credit_applied="30", amount_remaining="70")
    books.pay("ch", D30, "70", A="70")
    assert posted(books) == {CREDIT: Decimal("30"), CLEARING: Decimal("70"), SEATS: Decimal("-100")}


def test_a_void_gives_the_credit_back(books: Any) -> None:
    books.invoice(
        "A", D29, {"amount": "100"}, credit_applied="30", status="void", voided_date=D30, amount_remaining="0"
    )  # fmt: skip
    assert posted(books) == {}


def test_a_negative_invoice_gives_its_credit_once(books: Any) -> None:
    books.invoice("A", D29, {"amount": "-40", "tax": "-4"}, credit_applied="-44", status="paid", amount_remaining="0")
    assert posted(books)[CREDIT] == Decimal("-44")


def test_what_credit_paid_is_not_given_up_with_the_rest(books: Any) -> None:
    books.invoice(
        "A", D29, {"amount": "100"}, credit_applied="30", status="uncollectible", uncollectible_date=D31,
        amount_remaining="70",
    )  # fmt: skip
    assert posted(books) == {CREDIT: Decimal("30"), BAD_DEBT: Decimal("70"), SEATS: Decimal("-100")}


def test_documents_accounted_before_go_live_never_post_but_what_happens_to_them_does(books: Any) -> None:
    books.invoice("OLD", date(2026, 3, 28), {"amount": "100", "start": date(2026, 3, 28), "end": date(2026, 4, 28)})
    assert books.plan(D31).batches == ()
    books.pay("ch_1", D30, "100", OLD="100")
    assert posted(books) == {CLEARING: Decimal("100"), RECEIVABLE: Decimal("-100")}


def test_drafts_and_deleted_rows_post_nothing(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"}, status="draft")
    books.invoice("B", D29, {"amount": "100"}, is_deleted=True)
    assert books.plan(D31).batches == ()


def test_a_credit_note_unwinds_deferred_first_then_revenue(books: Any) -> None:
    # 30 days of 1.00 each, half of them released by the former integration at go-live
    books.invoice("A", date(2026, 3, 14), {"amount": "30", "start": date(2026, 3, 14), "end": date(2026, 4, 13)})
    books.credit("C", D30, "A", 1, "20", tax="2")
    assert posted(books) == {
        DEFERRED: Decimal("15"),
        SEATS: Decimal("5"),
        TAX: Decimal("2"),
        RECEIVABLE: Decimal("-22"),
    }


def test_a_second_credit_note_takes_what_deferred_the_first_left(books: Any) -> None:
    books.invoice("A", date(2026, 3, 14), {"amount": "30", "start": date(2026, 3, 14), "end": date(2026, 4, 13)})
    books.credit("C1", D29, "A", 1, "10")
    books.credit("C2", D30, "A", 1, "10")
    assert posted(books) == {DEFERRED: Decimal("15"), SEATS: Decimal("5"), RECEIVABLE: Decimal("-20")}


def test_a_credit_note_of_a_paid_invoice_is_owed_to_the_customer_until_refunded(books: Any) -> None:
    books.invoice("A", D29, {"amount": "50", "start": D29, "end": date(2026, 4, 28)})
    books.pay("ch", D29, "50", A="50")
    books.credit("C", D30, "A", 1, "50", to_receivable="20", to_customer_credit="30")
    assert posted(books, D30)[CREDIT] == Decimal("-30")
    books.put("refund", "re", status="succeeded", amount="30", settled_date=D31, credit_note_source_id="C")
    assert posted(books) == {CLEARING: Decimal("20"), RECEIVABLE: Decimal("-20")}


def test_a_void_takes_everything_back(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)})
    assert posted(books, D29)[RECEIVABLE] == Decimal("110")
    books.invoice(
        "A", D29, {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)}, status="void", voided_date=D30
    )
    assert posted(books) == {}


def test_an_uncollectible_invoice_ends_deferred_then_bad_debt_and_comes_back_when_paid(books: Any) -> None:
    line = {"amount": "100", "tax": "10", "start": D29, "end": date(2026, 4, 29)}
    late = {"amount": "30", "start": date(2026, 3, 1), "end": D29}
    books.invoice("A", D29, line, late, status="uncollectible", uncollectible_date=D30)
    assert posted(books, D30) == {SEATS: Decimal("-30"), TAX: Decimal("-10"), BAD_DEBT: Decimal("40")}
    books.pay("ch", D31, "140", A="140")
    assert posted(books)[BAD_DEBT] == Decimal("-100")


def test_what_no_invoice_takes_of_a_payment_is_the_customers_credit(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.pay("ch", D30, "130", A="100", UNKNOWN="10")
    assert posted(books) == {CLEARING: Decimal("130"), SEATS: Decimal("-100"), CREDIT: Decimal("-30")}


def test_a_direct_payment_reaches_the_bank(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"})
    books.pay("ch", D30, "100", A="100")
    books.rows["payment"]["ch"] |= {"balance_transaction_id": None, "settled_date": None}
    assert posted(books) == {BANK: Decimal("100"), SEATS: Decimal("-100")}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            {"balance_transaction": {"type": "charge", "reporting_category": "charge", "amount": "100",
                                     "fee": "3.20", "net": "96.80"}},
            {FEES: "3.20", CLEARING: "-3.20"},
            id="fee of a charge",
        ),
        pytest.param(
            {"balance_transaction": {"type": "stripe_fee", "reporting_category": "fee", "amount": "-5",
                                     "fee": "0", "net": "-5"}},
            {FEES: "5", CLEARING: "-5"},
            id="fee of its own",
        ),
        pytest.param(
            {"refund": {"status": "succeeded", "amount": "10", "settled_date": D30}},
            {"23500": "10", CLEARING: "-10"},
            id="refund without a credit note",
        ),
        pytest.param(
            {"refund": {"status": "failed", "amount": "10", "settled_date": D29, "failed_date": D30}},
            {}, id="refund that failed",
        ),
        pytest.param(
            {"dispute": {"status": "under_review", "amount": "10", "fee": "15", "withdrawn_date": D30}},
            {"11200": "10", FEES: "15", CLEARING: "-25"},
            id="dispute, funds withdrawn",
        ),
        pytest.param(
            {"dispute": {"status": "won", "amount": "10", "fee": "0", "withdrawn_date": D29, "closed_date": D30}},
            {}, id="dispute won",
        ),
        pytest.param(
            {"dispute": {"status": "lost", "amount": "10", "fee": "0", "withdrawn_date": D29, "closed_date": D30}},
            {"60300": "10", CLEARING: "-10"},
            id="dispute lost",
        ),
        pytest.param(
            {"payout": {"status": "paid", "amount": "70", "automatic": True, "bank_reference": "PO7"}},
            {TRANSIT: "70", CLEARING: "-70"},
            id="payout sent",
        ),
        pytest.param(
            {
                "payout": {"status": "paid", "amount": "70", "automatic": True, "bank_reference": "PO7"},
                "bank_line": {"account": "1", "booking_date": D30, "amount": "70", "reference": "STRIPE PO7"},
            },
            {BANK: "70", CLEARING: "-70"},
            id="payout arrived",
        ),
        pytest.param(
            {
                "payout": {"status": "failed", "amount": "70", "automatic": True, "bank_reference": "PO7"},
                "balance_transaction": {
                    "type": "payout_failure", "reporting_category": "payout_reversal", "amount": "70",
                    "fee": "0", "net": "70",
                },
            },
            {},
            id="payout failed",
        ),
    ],
)  # fmt: skip
def test_movements_of_cash(books: Any, rows: dict[str, dict[str, Any]], expected: dict[str, str]) -> None:
    for table, values in rows.items():
        books.put(table, f"{table}_1", **({"accounting_date": D29} | values))
    assert posted(books) == {a: Decimal(v) for a, v in expected.items()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [("150", {BANK: "150", CLEARING: "-150"}), ("140", {TRANSIT: "150", CLEARING: "-150"})],
)
def test_a_bank_line_of_several_payouts_is_posted_once_where_they_add_up_to_it_and_else_waits(
    books: Any, line: str, expected: dict[str, str]
) -> None:
    for number, amount in (("PO1", "100"), ("PO2", "50")):
        books.put(
            "payout", number, status="paid", amount=amount, automatic=True, accounting_date=D29, bank_reference=number
        )
    books.put(
        "bank_line", "b", account="1", accounting_date=D30, booking_date=D30, amount=line, reference="STRIPE PO1 PO2"
    )
    plan = books.plan(D30)
    held = plan.journals.held.to_pylist()
    assert {h["reason"] for h in held} == (
        {"the bank line names 2 payouts that do not add up to it"} if line == "140" else set()
    )
    assert [h["amount"] for h in held] == ([Decimal(100), Decimal(50)] if held else [])
    books.post(plan)
    assert books.balances() == {account: Decimal(amount) for account, amount in expected.items()}


def test_an_unmapped_product_holds_its_document_only_and_is_priced(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"}, {"amount": "5", "family": None, "product_source_id": "prod_x"})
    books.invoice("B", D29, {"amount": "7"})
    plan = books.plan(D29)
    assert books.lines(plan) == [(RECEIVABLE, "debit", Decimal("7")), (SEATS, "credit", Decimal("7"))]
    assert [(h.currency, h.events, h.amount) for h in plan.held] == [("USD", 2, Decimal("105"))]
    assert "prod_x is not mapped" in "".join(plan.journals.held["reason"].to_pylist())
    books.post(plan)
    books.rows["invoice_line"]["A.2"]["product_family"] = "seats"
    assert posted(books) == {RECEIVABLE: Decimal("112"), SEATS: Decimal("-112")}


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        pytest.param("87.74", {RECEIVABLE: "87.74", TAX: "-11.44", SEATS: "-76.30"}, id="tax by line"),
        pytest.param(
            "87.75", {RECEIVABLE: "87.75", TAX: "-11.44", SEATS: "-76.30", "65000": "-0.01"}, id="tax on total"
        ),
    ],
)
def test_tax_rounded_by_line_and_on_total(books: Any, total: str, expected: dict[str, str]) -> None:
    # Xero developer guide, "Rounding": 25.06, 25.61, 25.63 at 15 %
    lines = [{"amount": a, "tax": t} for a, t in (("25.06", "3.76"), ("25.61", "3.84"), ("25.63", "3.84"))]
    books.invoice("A", D29, *lines, total=total)
    assert posted(books) == {a: Decimal(v) for a, v in expected.items()}


def test_a_total_that_is_not_its_lines_is_no_rounding_and_waits(books: Any) -> None:
    books.invoice("A", D29, {"amount": "100"}, total="101")
    plan = books.plan(D29)
    assert plan.batches == ()
    assert plan.held[0].amount == Decimal("101")


@pytest.mark.parametrize(
    ("currency", "amount", "text"), [("JPY", "1500", "1500"), ("KWD", "10.005", "10.005"), ("EUR", "0.01", "0.01")]
)
def test_amounts_reach_the_erp_at_the_currencys_minor_unit(
    make_books: Any, currency: str, amount: str, text: str
) -> None:
    books = make_books(functional_currency=currency)
    books.invoice("A", D29, {"amount": amount})
    books.post(books.plan(D29))
    assert [str(line.debit + line.credit) for line in books.erp.journals()[0].lines] == [text, text]
    assert books.balances() == {RECEIVABLE: Decimal(amount), SEATS: -Decimal(amount)}
