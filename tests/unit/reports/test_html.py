import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from sample import DAY, broken, row, sample

from tieout.reports.data import headline
from tieout.reports.html import money, render


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action")]


def test_the_page_stands_alone_and_carries_no_script():
    page = Page()
    page.feed(render(sample()))
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert "url(" not in render(sample())


def test_texts_from_outside_are_escaped():
    html = render(sample())
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_same_data_gives_the_same_bytes():
    assert render(sample()) == render(sample())


def test_it_shows_where_each_record_went_and_what_the_results_hash_to():
    html = render(sample())
    assert '<td class="num">120</td><td class="num">115</td><td class="num">3</td><td class="num">2</td>' in html
    assert f"<td>breaks</td><td><code>{'b7' * 32}</code></td>" in html


def test_it_says_first_whether_the_ledger_ties_and_what_blocks():
    assert "Ties" in render(sample())
    assert "Not proved" in render(sample(proof=()))
    told = "Not proved: DE, ledger main: the ERP does not answer."
    partly = render(sample(unproved=(told,)))
    assert told in partly
    assert "Ties" not in partly
    off = {**sample().proof[0], "difference": sample().proof[0]["opening"]}
    assert "1 accounts do not tie" in render(sample(proof=(off,)))
    waiting = {**sample().journals[0], "state": "unknown"}
    assert "1 journal sent without an answer" in render(sample(journals=(waiting,)))


def test_it_warns_of_small_breaks_that_add_up():
    small = row(
        "breaks_forward",
        definition_id="invoice_to_receivable",
        legal_entity_id="DE",
        currency="EUR",
        immaterial_breaks=12,
        immaterial_value=Decimal("37.5"),
        immaterial_limit=Decimal(30),
        is_watched=True,
    )
    warned = "Invoices against receivables, DE: 12 immaterial breaks add up to 37.50 EUR, more than 30.00 EUR."
    assert warned in headline(sample(forward=(small,))).blockers
    assert warned not in headline(sample(forward=({**small, "is_watched": False},))).blockers


def test_it_names_held_events_cut_off_breaks_and_entries_by_others_among_the_blockers():
    cut_off = broken("DE-1", "cut_off", "361.17")
    foreign = broken("MANUAL|11000", "missing_left", "5", definition_id="journal_to_ledger", state="open")
    accepted = {**foreign, "break_key": "MANUAL|12000", "state": "known_difference"}
    held = [
        row("journal_held", event_id=f"invoice:{n}", event_date=DAY, amount=Decimal(amount), currency=currency,
            legal_entity_id="US", event_type="invoice_ahead", reason="", cause="product p is not mapped")
        for n, amount, currency in ((1, "46200", "JPY"), (2, "300.00", "USD"), (3, "46.40", "USD"))
    ]  # fmt: skip
    blockers = headline(sample(held=tuple(held), breaks=(cut_off, foreign, accepted))).blockers
    assert blockers[:5] == (
        "3 accounting events are held and not posted: 46,200 JPY · 346.40 USD.",
        f"US: product p is not mapped, {DAY}: 1 document waits with 46,200 JPY.",
        f"US: product p is not mapped, {DAY}: 2 documents wait with 346.40 USD.",
        "1 cut-off break stands in different periods on the two sides: 361.17 EUR.",
        "1 entry by others is on controlled accounts: 5.00 EUR.",
    )
    assert "opening + posted + entries by others = ERP trial balance" in render(sample())


def test_it_says_what_at_stake_means_and_where_the_close_backlog_is():
    html = render(sample(close_report="reports/2026-03/report.html"))
    assert "each cause counted once, nothing netted" in html
    assert "reports/2026-03/report.html" in html


def test_periods_are_summed_in_the_totals_and_all_comes_last():
    html = render(sample())
    rows = re.findall(r"<tr[^>]*><td>DE</td><td>EUR</td><td>(.*?)</td><td class=\"num\">(\d+)</td>", html)
    assert rows == [("matched", "15"), ("break: missing right", "1"), ("all", "16")]


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("1234.5000", "EUR", "1,234.50"), ("1000.0000", "JPY", "1,000"), ("-0.5", "KWD", "-0.500")],
)
def test_amounts_show_the_currencys_own_digits(amount, currency, shown):
    assert money(Decimal(amount), currency) == shown
    assert money(None, currency) == ""


def test_an_empty_night_still_makes_a_page():
    empty = sample(
        sources=(), gate=(), breaks=(), gone=(), totals=(), journals=(), journal_lines=(), drilldown=(), proof=(),
        foreign=(), quarantine=(),
    )  # fmt: skip
    assert "No open breaks" in render(empty)


def usage(meter, month, counted, billed, due, charged, currency="EUR"):
    return {"meter": meter, "unit": "call", "month": month, "currency": currency, "counted": Decimal(counted),
            "billed": Decimal(billed), "due": Decimal(due), "charged": Decimal(charged)}  # fmt: skip


def test_usage_shows_each_meters_trend_and_the_largest_leaks():
    leak = {"definition_id": "usage_to_billing", "owner": "billing operations"}
    page = render(
        sample(
            usage=(usage("api_calls", "2026-02", 10, 10, 5, 5), usage("api_calls", "2026-03", 1200000, 1100000, 60, 55),
                   usage("<b>", "2026-03", 1, 1, 1, 1)),
            breaks=(
                broken("small", "amount", "2", reason="wrong tier", sentence="A small one.", **leak),
                broken("large", "missing_right", "40", reason="used not billed", sentence="A <large> one.", **leak),
                broken("later", "timing", "900", reason="used not billed", sentence="Not yet.", **leak),
            ),
        )
    )  # fmt: skip
    section = page[page.index('<h2 id="usage">') : page.index('<h2 id="totals">')]
    assert section.index("A &lt;large&gt; one.") < section.index("A small one.")
    assert "Not yet." not in section
    assert "<b>" not in section
    assert section.count("<polyline") == 4
    assert ">1.2 m<" in section
    assert '<td class="num">1,200,000</td><td class="num">1,100,000</td>' in section
    assert '<td class="num bad">-5.00</td>' in section
    assert '<h2 id="usage">' not in render(sample())
