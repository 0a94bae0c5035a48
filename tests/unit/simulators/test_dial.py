"""The fault dial: a page served twice goes to the reader whose page it was."""

from tieout_sandbox.simulators.faults import Dial
from tieout_sandbox.simulators.wire import Answer


def test_a_reader_is_never_served_another_readers_page():
    dial, asked = Dial(), ("GET", "/stripe/v1/invoices", "")
    dial.set({"kind": "duplicate_page", "path": "/stripe/v1/invoices", "count": 1})
    ours, theirs = Answer({"data": ["ours"]}), Answer({"data": ["theirs"]})
    dial.remember_page(*asked, ours, reading="acct_us")
    assert dial.duplicate_page(*asked, reading="acct_de") is None
    dial.remember_page(*asked, theirs, reading="acct_de")
    assert dial.duplicate_page(*asked, reading="acct_us") is ours
    assert dial.duplicate_page(*asked, reading="acct_de") is None, "it fires once"
