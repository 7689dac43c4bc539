"""How instances are called, and who is meant by a word; also those that are gone are known."""

from collections.abc import Callable
from typing import Final

from offload.errors import UsageError
from offload.peers.topology import TopologyView

ID_LENGTH: Final = 26
SHORT_ID: Final = 8


class Names:
    """
    The names of all who were seen in ``view``.

    Args:
        view: Who is there.
    """

    def __init__(self, view: Callable[[], TopologyView]) -> None:
        self._view = view
        self._seen: dict[str, str] = {}

    def of(self, instance_id: str) -> str:
        """Return what people call an instance; of one that was never seen, how its id begins."""
        self._look()
        return self._seen.get(instance_id, instance_id[:SHORT_ID])

    def meant(self, word: str) -> str:
        """
        Return the id of the instance that a name, an id or its beginning stands for ("": "").

        Raises:
            UsageError: If nobody has been seen who is called so, or several are.
        """
        if not word:
            return ""
        if not isinstance(word, str):
            raise UsageError(f"{word!r} is no name of an instance")
        self._look()
        named = {i for i, name in self._seen.items() if name == word}
        found = {word} & self._seen.keys() or named
        found = found or {i for i in self._seen if i.startswith(word)}
        if len(found) == 1:
            return found.pop()
        if not found and len(word) == ID_LENGTH:
            return word  # left before we started
        raise UsageError(f"{word!r} is {'more than one' if found else 'no'} instance that was seen")

    def _look(self) -> None:
        for instance in self._view().instances:
            self._seen[instance.id] = instance.name
