"""How long the transport waits for others."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Timing:
    """
    How long the transport waits for others.

    Attributes:
        dial_s: For a connection and the peer's hello.
        write_s: For the peer to take what was written, before the link counts as broken.
        stall_s: For the next chunk of a blob.
        slow_s: For a rate worth waiting for, when another peer may have the blob too.
        push_s: For a peer to begin to put a blob that it was asked for.
    """

    dial_s: float = 5.0
    write_s: float = 10.0
    stall_s: float = 30.0
    slow_s: float = 10.0
    push_s: float = 10.0


PATIENT: Final = Timing()
