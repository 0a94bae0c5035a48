"""What can go wrong, as a small hierarchy whose messages tell a person what to do."""

from __future__ import annotations


class TieoutError(Exception):
    """Base of every error Tieout raises on purpose.

    `message` says what failed; the keywords say on which record, what was expected, what was there, and the
    remedy. They are kept as attributes so that a report or a log can show them apart.
    """

    retryable = False

    def __init__(
        self,
        message: str,
        *,
        record: str | None = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.message, self.record, self.expected, self.got, self.remedy = (
            message,
            record,
            expected,
            got,
            remedy,
        )
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.message]
        if self.record is not None:
            parts.append(f"record: {self.record}")
        if self.expected is not None:
            parts.append(f"expected: {self.expected}")
        if self.got is not None:
            parts.append(f"got: {self.got}")
        if self.remedy is not None:
            parts.append(f"remedy: {self.remedy}")
        return "; ".join(parts)


class ConfigError(TieoutError):
    """A configuration file cannot be used as it stands."""


class SourceError(TieoutError):
    """A vendor could not be read; `source`, `window` and `request` name what was asked."""

    def __init__(
        self,
        message: str,
        *,
        source: str,
        window: str | None = None,
        request: str | None = None,
        record: str | None = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.source, self.window, self.request = source, window, request
        where = f"{source}" + (f", window {window}" if window else "") + (f", request {request}" if request else "")
        super().__init__(f"{message} ({where})", record=record, expected=expected, got=got, remedy=remedy)


class Unavailable(SourceError):
    """The vendor did not answer, or answered with a passing fault, after every allowed try."""

    retryable = True


class RateLimited(Unavailable):
    """The vendor's limit was hit and did not clear within the allowed tries."""


class Refused(SourceError):
    """The vendor understood and said no (credentials, permission, unknown object): a person must act."""


class IncompleteExtract(SourceError):
    """What arrived is provably not the whole: an independent total disagrees, or a page was cut."""


class DriftError(SourceError):
    """A field the contract needs is missing or has changed its type."""


class DataError(TieoutError):
    """A value breaks a rule of the data model where no quarantine is possible."""


class DefinitionError(ConfigError):
    """A reconciliation definition is wrong; the message names the line and the remedy."""


class StoreError(TieoutError):
    """The store refuses a change."""


class StaleWatermark(StoreError):
    """Another process moved the watermark first; read it again and start over."""

    retryable = True


class LeaseHeld(StoreError):
    """Another process holds the lease; wait or come back."""

    retryable = True


class LeaseLost(StoreError):
    """The lease was taken over while this process still worked: its writes are refused."""


class IllegalTransition(StoreError):
    """A state machine has no such step from where the record stands."""


class LedgerError(TieoutError):
    """Accounting rules are broken: an unbalanced journal, an unmapped account, a slot with other bytes."""


class ErpError(TieoutError):
    """Base of what an ERP can answer."""


class Rejected(ErpError):
    """The ERP understood and refused the journal: nothing was stored."""


class PeriodClosed(Rejected):
    """The accounting date falls into a period the ERP has closed."""


class ErpUnavailable(ErpError):
    """The ERP could not be reached; the request was certainly not carried out."""

    retryable = True


class ErpRateLimited(ErpUnavailable):
    """The ERP asked to slow down; the request was not carried out."""


class UnknownOutcome(ErpError):
    """No answer after a write was sent: it may or may not have been carried out. Look it up before anything else."""
