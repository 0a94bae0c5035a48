"""The part of the posting operation that the simulator speaks, as a WSDL of its own; names and lengths are SAP's."""

from __future__ import annotations

NAMESPACE = "http://sap.com/xi/SAPSCORE/SFIN"
OPERATION = "JournalEntryCreateRequestConfirmation_In"
PATH = "/sap/bc/srt/scs_ext/sap/journalentrycreaterequestconfi"

ENTRY: tuple[tuple[str, int], ...] = (
    ("OriginalReferenceDocumentType", 5),
    ("OriginalReferenceDocument", 20),
    ("BusinessTransactionType", 4),
    ("AccountingDocumentType", 5),
    ("DocumentReferenceID", 16),
    ("DocumentHeaderText", 25),
    ("CreatedByUser", 12),
    ("CompanyCode", 4),
    ("DocumentDate", 10),
    ("PostingDate", 10),
    ("Reference1InDocumentHeader", 20),
    ("Reference2InDocumentHeader", 20),
)
"""Elements of the header with their lengths, in the order of the contract."""
REQUIRED = frozenset(
    {"OriginalReferenceDocumentType", "BusinessTransactionType", "AccountingDocumentType", "CreatedByUser",
     "CompanyCode", "DocumentDate", "PostingDate"}
)  # fmt: skip
ITEM: tuple[tuple[str, int], ...] = (
    ("ReferenceDocumentItem", 10),
    ("GLAccount", 10),
    ("AmountInTransactionCurrency", 0),
    ("DebitCreditCode", 1),
    ("DocumentItemText", 50),
    ("AssignmentReference", 18),
    ("Reference3IDByBusinessPartner", 20),
)
ASSIGNMENT: tuple[tuple[str, int], ...] = (
    ("OrderID", 12),
    ("ProfitCenter", 10),
    ("Segment", 10),
    ("CostCenter", 10),
    ("FunctionalArea", 16),
)


def wsdl(address: str) -> str:
    """A WSDL of the operation with the elements above, at `address`."""
    header = _sequence("Header", '<xsd:element name="ID" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="UUID" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="ReferenceID" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="CreationDateTime" type="xsd:dateTime"/>'
        '<xsd:element name="SenderBusinessSystemID" type="xsd:token" minOccurs="0"/>')  # fmt: skip
    assignment = _sequence("Assignment", "".join(_text(n, length) for n, length in ASSIGNMENT))
    item = _sequence("Item", "".join(map(_item_element, ITEM)))
    entry = _sequence("Entry", "".join(map(_entry_element, ENTRY))
        + '<xsd:element name="Item" type="tns:Item" minOccurs="0" maxOccurs="unbounded"/>')  # fmt: skip
    request = _sequence("Request", '<xsd:element name="MessageHeader" type="tns:Header"/>'
        '<xsd:element name="JournalEntry" type="tns:Entry"/>')  # fmt: skip
    bulk = _sequence("BulkRequest", '<xsd:element name="MessageHeader" type="tns:Header"/>'
        '<xsd:element name="JournalEntryCreateRequest" type="tns:Request" maxOccurs="unbounded"/>')  # fmt: skip
    log_item = _sequence("LogItem", '<xsd:element name="TypeID" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="SeverityCode" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="Note" type="xsd:string"/>'
        '<xsd:element name="WebURI" type="xsd:anyURI" minOccurs="0"/>')  # fmt: skip
    log = _sequence("Log", '<xsd:element name="MaximumLogItemSeverityCode" type="xsd:token" minOccurs="0"/>'
        '<xsd:element name="Item" type="tns:LogItem" minOccurs="0" maxOccurs="unbounded"/>')  # fmt: skip
    made = _sequence("Made", "".join(f'<xsd:element name="{n}" type="xsd:token"/>'
        for n in ("AccountingDocument", "CompanyCode", "FiscalYear")))  # fmt: skip
    one = _sequence("Confirmation", '<xsd:element name="MessageHeader" type="tns:Header"/>'
        '<xsd:element name="JournalEntryCreateConfirmation" type="tns:Made" minOccurs="0"/>'
        '<xsd:element name="Log" type="tns:Log" minOccurs="0"/>')  # fmt: skip
    confirmations = _sequence("BulkConfirmation", '<xsd:element name="MessageHeader" type="tns:Header"/>'
        '<xsd:element name="ConfirmationInterfaceOrignName" type="xsd:token"/>'
        '<xsd:element name="JournalEntryCreateConfirmation" type="tns:Confirmation" minOccurs="0"'
        ' maxOccurs="unbounded"/>'
        '<xsd:element name="Log" type="tns:Log"/>')  # fmt: skip
    amount = (
        '<xsd:complexType name="Amount"><xsd:simpleContent><xsd:extension base="xsd:decimal">'
        '<xsd:attribute name="currencyCode" type="xsd:token" use="required"/></xsd:extension></xsd:simpleContent>'
        "</xsd:complexType>"
    )
    types = "".join((header, amount, assignment, item, entry, request, bulk, log_item, log, made, one, confirmations))
    messages = "".join(
        f'<wsdl:message name="{name}"><wsdl:part name="{name}" element="tns:{name}"/></wsdl:message>'
        for name in ("JournalEntryBulkCreateRequest", "JournalEntryBulkCreateConfirmation")
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?><wsdl:definitions targetNamespace="{NAMESPACE}" xmlns:tns="{NAMESPACE}"'
        ' xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"><wsdl:types>'
        f'<xsd:schema targetNamespace="{NAMESPACE}" elementFormDefault="unqualified">'
        '<xsd:element name="JournalEntryBulkCreateRequest" type="tns:BulkRequest"/>'
        '<xsd:element name="JournalEntryBulkCreateConfirmation" type="tns:BulkConfirmation"/>'
        f"{types}</xsd:schema></wsdl:types>{messages}"
        f'<wsdl:portType name="{OPERATION}"><wsdl:operation name="{OPERATION}">'
        '<wsdl:input message="tns:JournalEntryBulkCreateRequest"/>'
        '<wsdl:output message="tns:JournalEntryBulkCreateConfirmation"/></wsdl:operation></wsdl:portType>'
        f'<wsdl:binding name="binding" type="tns:{OPERATION}">'
        '<soap:binding transport="http://schemas.xmlsoap.org/soap/http" style="document"/>'
        f'<wsdl:operation name="{OPERATION}"><soap:operation soapAction="{NAMESPACE}/{OPERATION}/{OPERATION}Request"/>'
        '<wsdl:input><soap:body use="literal"/></wsdl:input><wsdl:output><soap:body use="literal"/></wsdl:output>'
        '</wsdl:operation></wsdl:binding><wsdl:service name="service"><wsdl:port name="binding" binding="tns:binding">'
        f'<soap:address location="{address}"/></wsdl:port></wsdl:service></wsdl:definitions>'
    )


def _sequence(name: str, elements: str) -> str:
    return f'<xsd:complexType name="{name}"><xsd:sequence>{elements}</xsd:sequence></xsd:complexType>'


def _text(name: str, length: int, *, required: bool = False) -> str:
    kind = (
        f'<xsd:simpleType><xsd:restriction base="xsd:token"><xsd:maxLength value="{length}"/></xsd:restriction>'
        "</xsd:simpleType>"
    )
    return f'<xsd:element name="{name}" minOccurs="{int(required)}">{kind}</xsd:element>'


def _entry_element(one: tuple[str, int]) -> str:
    name, length = one
    if name.endswith("Date"):
        return f'<xsd:element name="{name}" type="xsd:date"/>'
    return _text(name, length, required=name in REQUIRED)


def _item_element(one: tuple[str, int]) -> str:
    name, length = one
    if name == "AmountInTransactionCurrency":
        return f'<xsd:element name="{name}" type="tns:Amount"/>'
    if name == "GLAccount":
        return (
            '<xsd:element name="GLAccount"><xsd:complexType><xsd:simpleContent><xsd:extension base="xsd:token">'
            '<xsd:attribute name="listID" type="xsd:token"/></xsd:extension></xsd:simpleContent></xsd:complexType>'
            "</xsd:element>"
        )
    after = '<xsd:element name="AccountAssignment" type="tns:Assignment" minOccurs="0"/>'
    return _text(name, length) + (after if name == ITEM[-1][0] else "")
