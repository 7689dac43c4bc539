"""Whom the rules let send jobs here, and to whom they let own jobs go; asked anew each time."""

from collections.abc import Callable

from offload.permissions import Permissions, Who


class Allowed:
    """
    The permissions of this instance.

    Args:
        rules: The rules as they are now; by default all is allowed.
        who: What is known of an instance.
    """

    def __init__(
        self, rules: Callable[[], Permissions] = Permissions, who: Callable[[str], Who] = Who
    ) -> None:
        self._rules = rules
        self._who = who

    def refusal(self, peer: str, topic: str, size: int) -> str:
        """Say why ``peer`` may not send a job of ``topic`` and this size here; "" if it may."""
        rules = self._rules()
        why = rules.refusal(topic, self._who(peer)) if rules.allow_from else ""
        return why or rules.too_large(topic, size)

    def barred(self, peer: str, topic: str) -> str:
        """Say why own jobs of ``topic`` may not go to ``peer``; "" if they may."""
        rules = self._rules()
        return rules.barred(topic, self._who(peer)) if rules.send_to else ""
