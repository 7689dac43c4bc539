"""What an instance may say of itself beside its topics: plain values, and where it is. Pure."""

import ipaddress
import math
import re
from typing import Final

Scalar = str | int | float | bool

COUNT_LIMIT: Final = 200
TEXT_LIMIT: Final = 1000
HOST_LIMIT: Final = 253
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_INTEGER_LIMIT: Final = 2**63


def is_name(text: object) -> bool:
    """Say whether ``text`` can name one (CONFORMANCE C058)."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def fault(value: object) -> str:
    """Return what is wrong with a value, "" if nothing."""
    match value:
        case bool():
            return ""
        case str():
            too_long = len(value) > TEXT_LIMIT
            return f"a text may have {TEXT_LIMIT} characters at most" if too_long else ""
        case int():
            return "" if abs(value) < _INTEGER_LIMIT else "a whole number may have 63 bits at most"
        case float():
            return "" if math.isfinite(value) else "a number must be finite"
    return "must be text, a number or true/false"


def is_host(text: str) -> bool:
    """Say whether ``text`` has the form of an IP address or a host name."""
    if ":" not in text:
        return len(text) <= HOST_LIMIT and _HOST_NAME.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
