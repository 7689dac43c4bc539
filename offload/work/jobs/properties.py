"""What a consumer keeps with its job, as the text of a JSON object; null takes away."""

import json
from typing import Any, Final

LIMIT: Final = 64 * 1024  # characters; twice of what a consumer may keep


def merged(kept: str, changes: str) -> str:
    """Return ``kept`` with ``changes``; what is no JSON object, or too much, changes nothing."""
    if not changes:
        return kept
    every = {**as_map(kept), **as_map(changes)}
    text = json.dumps({name: value for name, value in every.items() if value is not None})
    return kept if len(text) > LIMIT else "" if text == "{}" else text


def as_map(text: str) -> dict[str, Any]:
    """Return what ``text`` says, nothing if it is no JSON object."""
    try:
        value = json.loads(text) if 0 < len(text) <= LIMIT else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
