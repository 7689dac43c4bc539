"""
What a person may do about the group: make it, invite, join, remove, and so on.

The same for an instance that runs and for one that does not: with a fellowship all linked peers
learn of it at once, without one when the instance starts. Of pairing, only what is used is
imported: to make a group costs neither a server nor a search.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from offload.config import Config
from offload.errors import Refused, UsageError
from offload.peers import discovery, pairing
from offload.peers.identity import (
    Credentials,
    Group,
    Identity,
    check_free,
    check_leave,
    enter,
    leave,
    move_in,
)
from offload.standing import addresses, folder_of
from offload.tasks import Tasks

if TYPE_CHECKING:
    from offload.peers.fellowship import Fellowship

log = logging.getLogger(__name__)
NAME_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Running:
    """What an instance that runs adds to its files."""

    credentials: Credentials
    fellowship: "Fellowship"


class GroupAffairs:
    """
    The verbs of ``offload group`` for one instance.

    Args:
        config: Its configuration.
        identity: Its key.
        running: Its credentials and fellowship, if it runs.
    """

    def __init__(self, config: Config, identity: Identity, running: Running | None) -> None:
        self._config = config
        self._identity = identity
        self._running = running
        self._folder = folder_of(config)
        self._tasks = Tasks()
        self._open: pairing.Inviting | None = None

    async def close(self) -> None:
        """Withdraw what is open."""
        await self._tasks.close()

    async def describe(self) -> dict[str, Any]:
        """Return the group as plain values."""
        self._check()
        if self._running:
            return self._running.fellowship.as_json()
        group = await asyncio.to_thread(self._folder.load)
        return (group or Group.create()).to_json(self._identity.id)

    async def init(self, name: str) -> dict[str, Any]:
        """
        Make the group that the user's instances are in silently one that others can join.

        Raises:
            Refused: If the user is in one already.
            UsageError: If that is no name.
        """
        self._check()
        if not 0 < len(name) <= NAME_LIMIT or not name.isprintable() or name != name.strip():
            raise UsageError(f"{name!r}: a name is 1 to {NAME_LIMIT} printable characters")
        await self._enter()
        await self._alter(lambda group: group.made(self._identity.id, name))
        return await self.describe()

    async def remove(self, instance: str) -> dict[str, Any]:
        """Remove a member, by name or id; raise ``UsageError``, ``NotAKeeper`` or ``Refused``."""
        self._check()
        await self._alter(lambda group: group.without(instance, own_id=self._identity.id))
        return await self.describe()

    async def promote(self, instance: str) -> dict[str, Any]:
        """Let a member keep the CA's key as well; raise ``UsageError`` or ``NotAKeeper``."""
        self._check()
        await self._alter(lambda group: group.with_keeper(instance))
        return await self.describe()

    async def rekey(self) -> dict[str, Any]:
        """Give the group a new CA, to which its members move; raise ``NotAKeeper``."""
        self._check()
        await self._alter(Group.rekeyed)
        return await self.describe()

    async def leave(self) -> dict[str, Any]:
        """Leave the group; ``noted``: a keeper knows. Raise ``Refused`` if that cannot be."""
        self._check()
        if self._running:
            return {"noted": await self._running.fellowship.leave()}
        group = await asyncio.to_thread(self._folder.load)
        if group is None:
            raise Refused("there is no group to leave")
        check_leave(group, self._identity.id)
        await asyncio.to_thread(leave, self._identity, self._folder)
        return {"noted": False}

    async def join(self, code: str, host: str, warn: Callable[[str], None]) -> dict[str, Any]:
        """
        Join the group of whoever invites with this code or token.

        Args:
            code: What the inviter shows.
            host: Where the inviter is; "" to look for it.
            warn: Is told what a person should see meanwhile.

        Raises:
            UsageError: If it is no code.
            JoinRefused: If nobody takes us in.
            Refused: If the user is in another group.
        """
        self._check()
        secret = pairing.Secret.read(code)
        group = await asyncio.to_thread(self._folder.load)
        check_free(
            group, group.roster.group if group and not group.roster.has(self._identity.id) else ""
        )
        node = self._config.node
        where = pairing.Where(
            host,
            node.listen or discovery.EVERYWHERE,
            node.realm,
            self._config.discovery.interfaces,
        )
        welcome = await pairing.join(self._identity, node.name, secret, where, warn)
        joined = await asyncio.to_thread(
            move_in, self._identity, self._folder, welcome.group, welcome.certificate
        )
        if self._running:
            self._running.credentials.install(joined)
        return await self.describe()

    async def invite(self, *, token: bool) -> AsyncGenerator[dict[str, Any], None]:
        """
        Open an invitation, and yield what happens to it, first what to tell the joiner.

        An invitation by code is withdrawn when nobody listens any more; one by token stays.

        Raises:
            Refused: If there is no group, or no port to be had.
            NotAKeeper: If the CA's key is not here.
        """
        self._check()
        group = await asyncio.to_thread(self._folder.load)
        if group is None or group.roster.silent:
            raise Refused("there is no group to invite to; make one with: offload init")
        group.ca_key()
        events: asyncio.Queue[pairing.Tried] = asyncio.Queue()
        secret = pairing.Secret.token(group.ca) if token else pairing.Secret.code()
        listen = addresses(self._config, group.roster)
        inviting = await self._serve(secret, listen, events.put_nowait)
        work = self._tasks.start(inviting.wait(linger=self._running is not None))
        try:
            plan = await asyncio.to_thread(discovery.make_plan, listen, port=inviting.port)
            yield {
                "kind": "open",
                "code": secret.text,
                "hosts": list(plan.hosts),
                "port": inviting.port,
                "valid_s": pairing.VALID_S,
            }
            while True:
                event = await events.get()
                yield asdict(event)
                if event.kind == "closed":
                    return
        finally:
            if not token:
                inviting.withdraw()
            if self._running is None:
                work.cancel()
                with suppress(asyncio.CancelledError):
                    await work

    # --- inside ----------------------------------------------------------------------------------

    async def _serve(
        self,
        secret: "pairing.Secret",
        listen: tuple[str, ...],
        tell: "Callable[[pairing.Tried], None]",
    ) -> "pairing.Inviting":
        """Open the invitation in place of a former one."""
        if self._open is not None:
            self._open.withdraw()
            await self._open.close()
        invitation = pairing.Invitation(secret, self._identity.id, time.monotonic())
        inviting = pairing.Inviting(
            invitation,
            own_id=self._identity.id,
            admit=self._admit,
            listen=listen,
            realm=self._config.node.realm,
            interfaces=self._config.discovery.interfaces,
            mdns=self._config.discovery.mdns,
            tell=tell,
        )
        try:
            await inviting.open()
        except OSError as error:
            await inviting.close()
            raise Refused(f"the invitation cannot be opened: {error.strerror}") from None
        self._open = inviting
        return inviting

    async def _admit(self, request: "pairing.Request") -> "pairing.Welcome":
        """Make whoever has proven itself a member."""
        made: list[pairing.Welcome] = []

        def taken_in(group: Group) -> Group:
            after, certificate = group.certify(request.public, request.name)
            made[:] = [pairing.Welcome(after, certificate)]
            return after

        await self._alter(taken_in)
        return made[0]

    async def _alter(self, change: Callable[[Group], Group]) -> None:
        if self._running:
            await self._running.fellowship.alter(change)
        else:
            await asyncio.to_thread(self._folder.alter, change)

    async def _enter(self) -> None:
        if not self._running:
            name = self._config.node.name
            await asyncio.to_thread(enter, self._identity, self._folder, name)

    def _check(self) -> None:
        if self._config.node.insecure:
            raise Refused("this instance is insecure, and belongs to no group")
