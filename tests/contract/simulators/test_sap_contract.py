"""SAP's simulator and adapter against the published WSDLs, recorded confirmations and the reading service's EDMX."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from lxml import etree

from tieout.erp import ErpJournal, ErpLine
from tieout.erp.sap import DIMENSIONS
from tieout.erp.sap_soap import JournalEntryService, UnreadableConfirmation
from tieout.errors import Rejected
from tieout.ids import short_key
from tieout_sandbox.simulators.ledger_server import serve
from tieout_sandbox.simulators.sap import Sap, api, contract

XSD = "{http://www.w3.org/2001/XMLSchema}"
KEY = "TIEOUT/US/main/2026-03/invoices/2026-03-29/v1"
LINES = (
    ErpLine("11000", Decimal("0.10"), Decimal(0), "a"),
    ErpLine("40100", Decimal(0), Decimal("0.10"), "b", {"product_family": "seats"}),
)


@pytest.fixture(scope="module", params=["2020", "2024"])
def published(request: pytest.FixtureRequest, spec: Callable[[str], Path]) -> bytes:
    return spec(f"sap/JOURNALENTRYCREATEREQUESTCONFI.{request.param}.wsdl").read_bytes()


@pytest.fixture(scope="module")
def newest(spec: Callable[[str], Path]) -> bytes:
    return spec("sap/JOURNALENTRYCREATEREQUESTCONFI.2024.wsdl").read_bytes()


@pytest.fixture(scope="module")
def edmx(spec: Callable[[str], Path]) -> dict[str, dict[str, dict[str, str]]]:
    """Entity type → property → its attributes."""
    root = ElementTree.parse(spec("sap/API_JOURNALENTRYITEMBASIC_SRV.edmx")).getroot()
    kinds = {}
    for kind in (e for e in root.iter() if e.tag.endswith("}EntityType")):
        properties = (p for p in kind if p.tag.endswith("}Property"))
        kinds[kind.attrib["Name"].removesuffix("Type")] = {p.attrib["Name"]: dict(p.attrib) for p in properties}
    return kinds


def schema_of(wsdl: bytes) -> etree.XMLSchema:
    """The XML Schema inside a WSDL."""
    return etree.XMLSchema(etree.parse(io.BytesIO(wsdl)).getroot().find(f".//{XSD}schema"))


def body_of(envelope: bytes) -> Any:
    return etree.fromstring(envelope).find("{http://schemas.xmlsoap.org/soap/envelope/}Body")[0]


def sent_with(wsdl: bytes, tmp_path: Path, **config: Any) -> bytes:
    """The message that the adapter sends by a WSDL."""
    heard: list[bytes] = []
    place = tmp_path / "published.wsdl"
    place.write_bytes(wsdl)
    erp = Sap(interface_named=b"ConfirmationInterfaceOrignName" in wsdl)
    whole, soap = erp.connection, JournalEntryService.message

    def connection(url: str) -> Any:
        return replace(whole(url), extra={"wsdl": str(place)})

    erp.connection = connection  # type: ignore[method-assign]
    with serve(erp) as server:
        ledger = server.ledger(**config)
        service = ledger._service()  # type: ignore[attr-defined]
        service.message = lambda *given: heard.append(soap(service, *given)) or heard[-1]
        ref = ledger.post(ErpJournal("US", KEY, short_key(KEY), date(2026, 3, 29), "USD", "n", LINES))
        assert ledger.read_back(ref).lines[1].dimensions == {"product_family": "seats"}
    return heard[0]


def test_the_adapters_message_is_valid_by_the_published_wsdl_and_taken_by_the_simulator(
    published: bytes, tmp_path: Path
) -> None:
    body = body_of(sent_with(published, tmp_path))
    schema_of(published).assertValid(body)
    entry = body.find("JournalEntryCreateRequest/JournalEntry")
    assert entry.findtext("DocumentReferenceID") == short_key(KEY)
    amounts = [(i.findtext("DebitCreditCode"), i.findtext("AmountInTransactionCurrency")) for i in entry.iter("Item")]
    assert amounts == [("S", "0.10"), ("H", "-0.10")]
    assert entry.findtext("Item[2]/AccountAssignment/ProfitCenter") == "PC_SEATS"


def test_the_simulators_own_wsdl_makes_the_same_message(newest: bytes, tmp_path: Path) -> None:
    def plain(envelope: bytes) -> bytes:
        return re.sub(
            rb"<CreationDateTime>[^<]*<", b"<CreationDateTime><", etree.tostring(body_of(envelope), method="c14n")
        )

    assert plain(sent_with(contract.wsdl("x").encode(), tmp_path)) == plain(sent_with(newest, tmp_path))


def test_the_simulators_elements_have_the_published_order_and_lengths(newest: bytes) -> None:
    root = etree.fromstring(newest)
    lengths = {
        t.get("name"): int(t.find(f".//{XSD}maxLength").get("value"))
        for t in root.iter(f"{XSD}simpleType")
        if t.find(f".//{XSD}maxLength") is not None
    }
    for kind, elements in (
        ("JournalEntryCreateRequestJournalEntry", contract.ENTRY),
        ("JournalEntryCreateRequestJournalEntryItem", contract.ITEM),
        ("JournalEntryCreateRequestJournalEntryItemAccountAssignment", contract.ASSIGNMENT),
    ):
        sequence = list(root.find(f".//{XSD}complexType[@name='{kind}']").iter(f"{XSD}element"))
        names = [e.get("name") for e in sequence]
        positions = [names.index(name) for name, _ in elements]
        assert positions == sorted(positions)
        for name, length in elements:
            theirs = lengths.get(str(sequence[names.index(name)].get("type")).rpartition(":")[2])
            if theirs is not None:
                assert length <= theirs, name


def test_the_lengths_that_the_adapter_keeps_to_are_the_published_ones(newest: bytes) -> None:
    root = etree.fromstring(newest)
    for element, length in DIMENSIONS.items():
        kind = root.find(f".//{XSD}element[@name='{element}']").get("type").rpartition(":")[2]
        stated = root.find(f".//{XSD}simpleType[@name='{kind}']//{XSD}maxLength").get("value")
        assert int(stated) == length, element


def test_the_simulators_confirmations_are_valid_by_the_published_wsdl(newest: bytes) -> None:
    erp = Sap()
    for made in (
        ("0100000001", "1710", "2026", [("605(RW)", "posted")]),
        ("0000000000", "1710", "0000", [("609(RW)", "no")]),
    ):
        schema_of(newest).assertValid(body_of(erp._confirmations([made]).encode()))


def test_the_recorded_confirmations_are_read_as_what_they_are(newest: bytes, spec: Callable[[str], Path]) -> None:
    service = JournalEntryService(newest, "2024")
    success = service.confirmation(
        spec("sap/recorded/JournalEntryBulkCreateConfirmation.success.soap11.xml").read_bytes()
    )
    assert (success.document, success.company_code, success.fiscal_year) == ("0100000008", "1410", "2024")
    error = service.confirmation(
        spec("sap/recorded/JournalEntryBulkCreateConfirmation.error.soap12.http200.xml").read_bytes()
    )
    assert error.document is None
    assert "507(F5): G/L account 1002010100 is not defined" in error.log


def test_a_confirmation_newer_than_the_wsdl_is_never_taken_for_a_refusal(spec: Callable[[str], Path]) -> None:
    service = JournalEntryService(spec("sap/JOURNALENTRYCREATEREQUESTCONFI.2020.wsdl").read_bytes(), "2020")
    answer = spec("sap/recorded/JournalEntryBulkCreateConfirmation.success.soap11.xml").read_bytes()
    with pytest.raises(UnreadableConfirmation):
        service.confirmation(answer)


def test_a_field_that_an_older_wsdl_lacks_is_refused_and_not_lost(spec: Callable[[str], Path], tmp_path: Path) -> None:
    old = spec("sap/JOURNALENTRYCREATEREQUESTCONFI.2020.wsdl").read_bytes()
    with pytest.raises(Rejected, match="no place for this"):
        sent_with(old, tmp_path, dimensions={"product_family": "Reference3IDByBusinessPartner"})


def test_the_balances_are_asked_by_published_properties_that_can_be_filtered(
    edmx: dict[str, dict[str, dict[str, str]]],
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    erp = Sap()
    rows = erp._rows

    def noting(request: Any, *given: Any) -> Any:
        asked.append((request.path_params.get("name", ""), dict(request.query_params)))
        return rows(request, *given)

    erp._rows = noting  # type: ignore[method-assign]
    with serve(erp) as server:
        server.ledger().trial_balance("US", date(2026, 3, 31))
    basic = [(name, query) for name, query in asked if name]
    assert {name for name, _ in basic} == {"A_CompanyCode", "A_GLAccountInChartOfAccounts", "A_JournalEntryItemBasic"}
    sap = "{http://www.sap.com/Protocols/SAPData}"
    for name, query in basic:
        properties = edmx[name]
        assert set(query.get("$select", "").split(",")) - {""} <= set(properties)
        for used in re.findall(r"(\w+) (?:eq|le|ge) ", query["$filter"]):
            assert properties[used].get(f"{sap}filterable") != "false"
        assert {n for n in erp._balances()[:1] for n in n} <= set(edmx["A_JournalEntryItemBasic"])


def test_the_basic_items_have_no_document_which_is_why_documents_are_read_elsewhere(
    edmx: dict[str, dict[str, dict[str, str]]],
) -> None:
    basic = edmx["A_JournalEntryItemBasic"]
    assert not {"AccountingDocument", "PostingDate", "DocumentReferenceID"} & set(basic)
    assert {"Ledger", "FiscalYearPeriod", "AmountInCompanyCodeCurrency"} <= set(basic)
    assert "AccountingDocument" in api.ITEM_COLUMNS
