"""The figures and the table of `make bench`."""

from tieout_sandbox.measure import lines, table
from tieout_sandbox.scan_floor import Floor

COST = {"started_at": "2026-03-30T09:00:00+00:00", "milliseconds": 2000, "cpu_milliseconds": 1500, "peak_mb": 310}
FACTS = {
    "gate_rows": [],
    "proof": {**COST, "started_at": "2026-03-30T09:02:00+00:00", "ties": True},
    "quality_gate": {**COST, "started_at": "2026-03-30T09:01:00+00:00", "rows": 3},
    "extract/zendesk": {**COST, "records": 2804, "kept_raw": 196},
}


def test_each_step_has_its_records_their_rate_and_its_cost_beside_one_scan_of_its_input():
    found = lines(FACTS, {"quality_gate": Floor(9000, 0.05), "extract/zendesk": Floor(2900, 0.01)})
    assert [line["step"] for line in found] == ["extract/zendesk", "quality_gate", "proof"]
    assert [line["records"] for line in found] == [3000, 9000, None]
    assert [line["records_per_second"] for line in found] == [1500, 4500, None]
    assert [line["times_floor"] for line in found] == [150.0, 30.0, None]


def test_an_empty_input_has_no_floor_to_be_held_against():
    (line,) = lines({"usage": COST}, {"usage": Floor(0, 0.0)})
    assert (line["floor_cpu_seconds"], line["times_floor"]) == (None, None)


def test_the_table_has_a_line_per_step_what_lies_between_them_and_the_whole_night():
    night = {
        "business_date": "2026-03-29", "seconds": 6.5, "cpu_seconds": 4.75, "rest_seconds": 0.5, "peak_mb": 310,
        "steps": lines(FACTS, {"quality_gate": Floor(9000, 0.05)}),
    }  # fmt: skip
    shown = [" ".join(line.split()) for line in table(night)]
    assert shown[:2] == ["night of 2026-03-29", "step seconds CPU s records records/s peak MB floor s x floor"]
    assert shown[4] == "quality_gate 2.00 1.50 9,000 4,500 310 0.05 30.0"
    assert shown[6] == "everything between the steps 0.50"
    assert shown[8] == "the night 6.50 4.75 310"
