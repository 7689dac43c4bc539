"""
The group's place in the user's folder, shared by all instances of this user on this machine.

One file holds all of the group, so that no crash leaves half of it; a lock keeps writers apart.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from offload.errors import Distrusted, IdentityFault, Refused
from offload.peers.identity.group import Group
from offload.peers.identity.keys import write_private

_FILE: Final = "group"
Stamp = tuple[int, int, int] | None


class GroupFolder:
    """The folder (mode 700) at ``path``; nothing is touched before it is asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / _FILE

    def stamp(self) -> Stamp:
        """Return what changes whenever the group does; None: there is none."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def load(self) -> Group | None:
        """
        Return the group, or None if there is none.

        Raises:
            IdentityFault: If it cannot be read.
        """
        try:
            return Group.from_bytes(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(error) from None
        except Distrusted as error:
            raise IdentityFault(str(self.file), error.reason) from None

    def change(self, change: Callable[[Group | None], Group | None]) -> Group | None:
        """
        Put what ``change`` makes of the group in its place, with no other writer in between.

        It is called with None if there is no group; what it returns is returned, None for none.

        Raises:
            IdentityFault: If the folder cannot be used.
        """
        with self._locked():
            before = self.load()
            after = change(before)
            try:
                if after is None:
                    self.file.unlink(missing_ok=True)
                elif after is not before:
                    write_private(self.file, after.to_bytes())
            except OSError as error:
                raise self._fault(error) from None
            return after

    def alter(self, change: Callable[[Group], Group]) -> Group:
        """
        Put what ``change`` makes of the group in its place; return that.

        Raises:
            Refused: If there is none.
            IdentityFault: If the folder cannot be used.
        """

        def altered(found: Group | None) -> Group:
            if found is None:
                raise Refused("there is no group here; make one with: offload init")
            return change(found)

        after = self.change(altered)
        if after is None:
            raise Refused("the group is gone")
        return after

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._fault(error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _fault(self, error: OSError) -> IdentityFault:
        return IdentityFault(str(self.path), f"cannot be used: {error.strerror or error}")
