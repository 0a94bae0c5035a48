"""Stripe's error bodies: https://docs.stripe.com/error-codes and the messages its libraries' users report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DOCS = "https://stripe.com/docs/error-codes"


@dataclass(slots=True)
class StripeError(Exception):
    """An answer other than success."""

    status: int
    error: dict[str, Any]
    headers: dict[str, str] | None = None


def _error(status: int, message: str, *, code: str | None = None, param: str | None = None, kind: str) -> StripeError:
    error: dict[str, Any] = {}
    if code:
        error |= {"code": code, "doc_url": f"{_DOCS}/{code.replace('_', '-')}"}
    error["message"] = message
    if param:
        error["param"] = param
    return StripeError(status, error | {"type": kind})


def invalid(message: str, *, code: str | None = None, param: str | None = None, status: int = 400) -> StripeError:
    """A request that Stripe refuses as `invalid_request_error`."""
    return _error(status, message, code=code, param=param, kind="invalid_request_error")


def no_key() -> StripeError:
    error = invalid(
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
        "auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for "
        "details, or we can help at https://support.stripe.com/.",
        status=401,
    )
    error.headers = {"WWW-Authenticate": 'Basic realm="Stripe"'}
    return error


def wrong_key(key: str) -> StripeError:
    return invalid(f"Invalid API Key provided: {_masked(key)}", status=401)


def forbidden(key: str, account: str, permission: str) -> StripeError:
    return invalid(
        f"The provided key '{_masked(key)}' does not have the required permissions for this endpoint on account "
        f"'{account}'. Having the '{permission}' permission would allow this request to continue.",
        status=403,
    )


def missing(noun: str, object_id: str, *, param: str = "id", status: int = 404) -> StripeError:
    return invalid(f"No such {noun}: '{object_id}'", code="resource_missing", param=param, status=status)


def unknown_url(method: str, path: str) -> StripeError:
    return invalid(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    )


def key_reused(key: str) -> StripeError:
    return _error(
        400,
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
        f"a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def key_in_use(key: str) -> StripeError:
    return _error(
        409,
        f"There is currently another in-progress request using this Idempotent Key ({key}). Please try again later.",
        code="idempotency_key_in_use",
        kind="idempotency_error",
    )


def too_many_requests() -> StripeError:
    return invalid(
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        status=429,
    )


def unknown_failure(status: int) -> StripeError:
    return _error(status, "An unknown error occurred. Please try again later.", kind="api_error")


def _masked(key: str) -> str:
    return f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
