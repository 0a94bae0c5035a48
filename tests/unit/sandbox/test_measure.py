"""The table `make bench` prints."""

from tieout_sandbox.measure import table


def test_a_line_per_step_and_what_no_step_keeps():
    facts = {
        "extract/stripe_us": {"milliseconds": 1500, "records": 2804},
        "gate_rows": [],
        "posting/US": {"posted": 2, "read_back": 2},
        "quality_gate": {"milliseconds": 250, "expectations": 90, "failed": 1, "rows": 3},
    }
    lines = [" ".join(line.split()) for line in table(facts, 2.0)]
    assert lines == [
        "step seconds counted",
        "extract/stripe_us 1.50 records 2,804",
        "quality_gate 0.25 expectations 90, failed 1",
        "posting, reading back, the rest 0.25 posted 2",
    ]
