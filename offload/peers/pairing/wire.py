"""Where an invitation is served."""

from typing import Final

JOIN_PORT: Final = 4712
JOIN_PATH: Final = "/offload/join"
