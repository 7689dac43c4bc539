"""
Bytes: strict MessagePack with limits; the only room that knows msgpack.

What comes from outside is unpacked with every length bounded before anything is allocated, and
whatever goes wrong is ``Malformed`` (FIELD-NOTES, msgpack). One byte can be an empty map, which
takes seventy: so where there could be too many maps and arrays in one value they are counted.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from offload.errors import Malformed

MAX_ITEMS: Final = 100_000
USUAL_BYTES: Final = 2_048  # most values are smaller; msgpack would make room for 256 KiB
_BAD: Final = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    msgpack.exceptions.UnpackException,
)
ExtHook = Callable[[int, bytes], Any]


def pack(value: Any, *, default: Callable[[Any], Any] | None = None) -> bytes:
    """Return ``value`` as MessagePack; raise ``TypeError`` or ``ValueError`` where it can't be."""
    packer = msgpack.Packer(use_bin_type=True, default=default, buf_size=USUAL_BYTES)
    packed: bytes = packer.pack(value)
    return packed


def array(packed: Sequence[bytes]) -> bytes:
    """Return the array of values that are packed already."""
    header: bytes = msgpack.Packer().pack_array_header(len(packed))
    return b"".join((header, *packed))


def ext(code: int, data: bytes) -> Any:
    """Return an extension value for ``pack``."""
    return msgpack.ExtType(code, data)


def unpack(
    data: bytes | memoryview,
    *,
    max_items: int = MAX_ITEMS,
    max_nodes: int | None = None,
    ext_hook: ExtHook | None = None,
) -> Any:
    """
    Return the one value that ``data`` holds.

    Raises:
        Malformed: If it is not exactly one MessagePack value, of at most ``max_items`` entries in
            any array or map, with keys that are text or bytes, and at most ``max_nodes`` arrays
            and maps in all; extensions need an ``ext_hook``, except the timestamp, which becomes a
            number.
    """
    size = len(data)
    hooks: dict[str, Any] = {}
    if max_nodes is not None and size > max_nodes:
        count = _counter(max_nodes)
        hooks = {"object_hook": count, "list_hook": count}
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            timestamp=1,  # no hook is asked about it; a number can do no harm
            ext_hook=ext_hook or _no_ext,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, max_items),
            max_map_len=min(size, max_items),
            max_ext_len=size,
            **hooks,
        )
    except _BAD as error:
        raise Malformed(f"not valid MessagePack ({type(error).__name__})") from None


def _counter(most: int) -> Callable[[Any], Any]:
    """Return a hook that lets ``most`` values pass."""
    left = most

    def count(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("too many maps and arrays")
        return value

    return count


def _no_ext(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension {code}")
