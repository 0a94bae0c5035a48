"""Stripe's request parameters: bracketed names, ranges, paging, and what is said of a wrong one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tieout_sandbox.simulators.stripe import errors

_RANGE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_LIMIT = 100


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`a[b]=1`, `c[]=2`, `c[0]=2`, `d=3` as {"a": {"b": "1"}, "c": ["2"], "d": "3"}."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        head, *keys = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
        if not keys:
            result[head] = value
        elif keys[0] == "" or keys[0].isdigit():
            result.setdefault(head, [])
            if not isinstance(result[head], list):
                raise errors.invalid(f"Invalid array: {head}", param=head)
            result[head].append(value)
        else:
            holder = result.setdefault(head, {})
            if not isinstance(holder, dict):
                raise errors.invalid(f"Invalid object: {head}", param=head)
            holder[keys[0]] = value
    return result


def integer(value: Any, param: str) -> int:
    """A whole number. Raises StripeError parameter_invalid_integer."""
    if not isinstance(value, str) or not re.fullmatch(r"-?\d+", value):
        raise errors.invalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=param)
    return int(value)


def boolean(value: Any, param: str) -> bool:
    if value not in ("true", "false"):
        raise errors.invalid(f"Invalid boolean: {value}", param=param)
    return bool(value == "true")


def limit(params: dict[str, Any]) -> int:
    """Rows per page, 10 unless asked, 1 to 100."""
    asked = integer(params.get("limit", "10"), "limit")
    if asked > _MAX_LIMIT:
        raise errors.invalid(
            f"This value must be less than or equal to {_MAX_LIMIT} (it currently is '{asked}').", param="limit"
        )
    if asked < 1:
        raise errors.invalid("This value must be greater than or equal to 1.", param="limit")
    return asked


def moment_range(value: Any, param: str) -> list[tuple[str, int]]:
    """`created=5` or `created[gte]=5&created[lt]=9` as [(SQL operator, unix seconds)]."""
    if isinstance(value, str):
        return [("=", integer(value, param))]
    if not isinstance(value, dict) or not value:
        raise errors.invalid(f"Invalid object: {param}", param=param)
    unknown = sorted(set(value) - set(_RANGE))
    if unknown:
        name = f"{param}[{unknown[0]}]"
        raise errors.invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    return [(_RANGE[op], integer(bound, f"{param}[{op}]")) for op, bound in value.items()]


def refuse_unknown(params: dict[str, Any], known: Iterable[str]) -> None:
    """Raises StripeError parameter_unknown, as Stripe does for any name it does not document."""
    unknown = sorted(set(params) - set(known))
    if unknown:
        names = ", ".join(unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise errors.invalid(f"Received unknown parameter{plural}: {names}", code="parameter_unknown", param=unknown[0])
