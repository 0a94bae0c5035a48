"""The same arguments give the same company; the shipped mapping fits it; ids have their vendors' forms."""

from __future__ import annotations

import csv
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tieout_sandbox
from tieout_sandbox.company import Company, generate
from tieout_sandbox.company.catalogue import product_mapping
from tieout_sandbox.company.identifiers import salesforce_id, stripe_id
from tieout_sandbox.company.plans import planted_count

MAPPING = Path(tieout_sandbox.__file__).parent / "config" / "mappings" / "products.csv"


def digest(company: Company) -> str:
    return hashlib.sha256(repr(company).encode()).hexdigest()


def test_the_same_seed_gives_the_same_company_in_another_process(planted: Company) -> None:
    program = (
        "from tieout_sandbox.company import generate; import hashlib; "
        "print(hashlib.sha256(repr(generate()).encode()).hexdigest())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "99"}
    )
    assert elsewhere.stdout.strip() == digest(planted)


def test_another_seed_gives_another_company(clean: Company) -> None:
    one, two = clean, generate(seed=2, clean=True)
    assert not {i.id for i in one.invoices} & {i.id for i in two.invoices}
    assert [p.stripe_ids for p in one.products] == [p.stripe_ids for p in two.products]


def test_scale_multiplies_customers_and_keeps_labels_rare(planted: Company) -> None:
    one, three = planted, generate(scale=3)
    assert 2 < len(three.invoices) / len(one.invoices) < 3.2
    assert len(one.labels) <= len(three.labels) < 3 * len(one.labels)
    assert (planted_count(2, 1), planted_count(2, 3), planted_count(2, 100)) == (2, 2, 60)
    kinds = {(x.definition_id, x.break_type) for x in one.labels}
    assert {(x.definition_id, x.break_type) for x in three.labels} == kinds


def test_a_scale_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be at least 1"):
        generate(scale=0)


def test_the_shipped_product_mapping_is_that_of_the_catalogue() -> None:
    with MAPPING.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == product_mapping()


def test_ids_have_their_vendors_forms() -> None:
    assert re.fullmatch(r"cus_[0-9A-Za-z]{24}", stripe_id("cus", 7, "x"))
    # the checksum of a documented id: 001d000000ABCde has upper case letters at 11, 12 and 13
    assert salesforce_id("001", 1) == "0015f0000000001AAA"
    assert len({salesforce_id("001", n) for n in range(5000)}) == 5000
