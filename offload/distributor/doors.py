"""What may start on this instance, and why something may not; asked anew each time."""

from collections.abc import Callable


def _nothing() -> str:
    return ""


class Doors:
    """
    All that opens and closes this instance to jobs of a topic.

    Args:
        consumes: Whether there is a consumer for a topic.
        enabled: Whether the topic is allowed, and switched on.
        gate: Why a queue is closed, or "".
        resting: Why nothing at all starts here, or "".
        reserved: Why nothing of others starts here, or "".
    """

    def __init__(
        self,
        *,
        consumes: Callable[[str], bool],
        enabled: Callable[[str], bool],
        gate: Callable[[str], str],
        resting: Callable[[], str] = _nothing,
        reserved: Callable[[], str] = _nothing,
    ) -> None:
        self._consumes = consumes
        self._enabled = enabled
        self._gate = gate
        self._resting = resting
        self._reserved = reserved

    def takes(self, topic: str) -> bool:
        """Say whether ``topic`` has a consumer here, and is enabled."""
        return self._enabled(topic) and self._consumes(topic)

    def disables(self, topic: str) -> bool:
        """Say whether ``topic`` has a consumer here, and is not enabled."""
        return not self._enabled(topic) and self._consumes(topic)

    def closed(self, topic: str, queue: str) -> str:
        """Say why a job that was added here does not start here; "" if it may."""
        return self._resting() or self._gate(queue) or self._shut(topic)

    def closed_to_others(self, topic: str, queue: str) -> str:
        """Say why a job of another does not start here; "" if it may."""
        return self.reserved() or self._gate(queue) or self._shut(topic)

    def reserved(self) -> str:
        """Say why no job of another starts here, whatever its topic; "" if they may."""
        return self._resting() or self._reserved()

    def _shut(self, topic: str) -> str:
        return "the topic is disabled" if self.disables(topic) else ""
