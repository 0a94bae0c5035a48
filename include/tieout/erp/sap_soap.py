"""SAP's SOAP operation that posts journal entries, by the WSDL of the tenant: a message out, a confirmation back.

HTTP 200 is no success: a confirmation without a document number is a refusal, and its log says why. The elements'
order is the WSDL's; an element it does not have is refused here, because SAP ignores what stands in the wrong place.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tieout.errors import ConfigError, Rejected

OPERATION = "JournalEntryCreateRequestConfirmation_In"
ACTION = f"http://sap.com/xi/SAPSCORE/SFIN/{OPERATION}/JournalEntryCreateRequestConfirmation_InRequest"
_FAILED = 3  # severity from which an item of the log is an error


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What SAP says of one journal: the document it made of it, none where it refused, and the log in words."""

    document: str | None
    company_code: str
    fiscal_year: str
    log: str


class UnreadableConfirmation(Exception):
    """An answer that is no confirmation of exactly one journal."""


class JournalEntryService:
    """The operation by a WSDL, given as the bytes of the file. Nothing is sent and nothing loaded from elsewhere."""

    def __init__(self, wsdl: bytes, source: str) -> None:
        self._wsdl, self._source = wsdl, source

    def message(self, header: Mapping[str, Any], entry: Mapping[str, Any]) -> bytes:
        """The SOAP envelope of one journal. Raises Rejected for an element the WSDL does not know."""
        from lxml import etree
        from zeep.exceptions import Error

        request = {"MessageHeader": header, "JournalEntry": entry}
        try:
            envelope = self._client.create_message(
                self._client.service, OPERATION, MessageHeader=header, JournalEntryCreateRequest=[request]
            )
        except (Error, TypeError, ValueError) as error:
            raise Rejected(
                "the WSDL has no place for this", record=self._source, got=str(error),
                remedy="check `dimensions` of the ERP's file, or load the WSDL of your tenant anew",
            ) from None  # fmt: skip
        whole: bytes = etree.tostring(envelope, xml_declaration=True, encoding="utf-8")
        return whole

    def confirmation(self, content: bytes) -> Confirmation:
        """What an answer says of the one journal that was sent. Raises UnreadableConfirmation."""
        from lxml.etree import QName, XMLSyntaxError
        from zeep.exceptions import Error
        from zeep.loader import parse_xml

        try:
            envelope = parse_xml(content, self._client.transport, settings=self._client.settings)
            bindings = {binding.nsmap["soap-env"]: binding for binding in self._client.wsdl.bindings.values()}
            binding = bindings[QName(envelope).namespace]
            [one] = binding.get(OPERATION).process_reply(envelope).JournalEntryCreateConfirmation
        except (Error, XMLSyntaxError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableConfirmation(f"{type(error).__name__}: {error}"[:300]) from None
        made, log = one.JournalEntryCreateConfirmation, one.Log
        number = (made.AccountingDocument or "").strip() if made else ""
        items = list(log.Item) if log else []
        severity = int((log.MaximumLogItemSeverityCode if log else None) or 0)
        words = "; ".join(f"{item.TypeID}: {item.Note}" for item in items)
        if number.strip("0") and severity < _FAILED:
            return Confirmation(number, made.CompanyCode, made.FiscalYear, words)
        if number.strip("0") or severity < _FAILED:
            raise UnreadableConfirmation(f"document {number!r} with severity {severity}: {words}"[:300])
        return Confirmation(None, "", "", words)

    @cached_property
    def _client(self) -> Any:
        from zeep import Client, Settings
        from zeep.transports import Transport

        class NoFetching(Transport):  # type: ignore[misc]
            """A WSDL that imports from elsewhere is not followed."""

            def load(self, url: str) -> bytes:
                raise ConfigError("the WSDL imports another file", record=url, remedy="save it in one file")

        try:
            # not strict: a confirmation may have grown an element since the WSDL was saved
            settings = Settings(strict=False, forbid_dtd=True)
            client = Client(io.BytesIO(self._wsdl), transport=NoFetching(), settings=settings)
            client.service[OPERATION]
            return client
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                "the WSDL cannot be used", record=self._source, got=f"{type(error).__name__}: {error}"[:300]
            ) from None
