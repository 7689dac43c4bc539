"""What a worker keeps of others' jobs (DESIGN §5, kept on disk)."""

from collections.abc import AsyncIterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from offload.errors import IllegalTransition
from offload.work.jobs import (
    Delivery,
    FileEntry,
    Held,
    HeldState,
    Outcome,
    Result,
    Spec,
    digest,
)
from offload.work.store import HeldStep, Store

PHOTO = FileEntry("in.jpg", "a" * 64, 5)
ORIGIN = "s" * 32


def a_spec() -> Spec:
    return Spec("a/b", b"\x80", digest(b"\x80"), files=(PHOTO,))


def a_success(value: bytes = b"\x01") -> Outcome:
    return Outcome(Result.SUCCEEDED, value=value, value_blob=PHOTO, files=(PHOTO,), run_s=1.5)


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Is new and empty; once in a file, once in memory."""
    store = Store.open(tmp_path) if request.param == "file" else Store.open()
    yield store
    await store.close()


class TestAJobOfAnother:
    KEY = (ORIGIN, "j" * 26)

    def held(self, state: HeldState = HeldState.HAVE, **more: object) -> Held:
        return replace(Held(*self.KEY, "o" * 26, state, 1, topic="a/b"), **more)

    async def keep(self, store: Store, held: Held, spec: Spec | None = None) -> None:
        await store.change_held([(self.KEY, lambda _: HeldStep(None, held, spec))])

    async def test_is_first_seen_as_none(self, store: Store) -> None:
        seen = await store.change_held([(self.KEY, HeldStep)])
        assert seen == [None]
        assert await store.held(HeldState) == []

    async def test_is_read_back_unchanged_in_every_field(self, store: Store) -> None:
        held = Held(
            *self.KEY,
            origin="o" * 26,
            state=HeldState.DONE,
            attempt=3,
            topic="a/b",
            delivery=Delivery.EXCLUSIVE,
            boot=2,
            refused="no room",
            outcome=a_success(),
            at=5.5,
            retry_count=4,
            properties='{"page": 3}',
        )
        plain = Held("", "", "", HeldState.HAVE, 0)
        changed = [f.name for f in fields(Held) if getattr(held, f.name) != getattr(plain, f.name)]
        assert changed == [f.name for f in fields(Held)], "give the new field a value of its own"
        await self.keep(store, held)
        assert await store.held([HeldState.DONE]) == [held]

    async def test_keeps_its_spec_until_it_is_a_tomb(self, store: Store) -> None:
        spec = a_spec()
        for state in (HeldState.HAVE, HeldState.STARTED, HeldState.DONE):
            await self.keep(store, self.held(state), spec if state is HeldState.HAVE else None)
            assert await store.held_spec(self.KEY) == spec
        await self.keep(store, self.held(HeldState.TOMB))
        assert await store.held_spec(self.KEY) is None

    async def test_that_is_done_shows_its_outcome_to_the_next_rule(self, store: Store) -> None:
        """Also if it is too large to be remembered."""
        for value in (b"x", b"x" * 100_000):
            await self.keep(store, self.held(HeldState.DONE, outcome=a_success(value)))
            (seen,) = await store.change_held([(self.KEY, HeldStep)])
            assert seen is not None
            assert seen.outcome == a_success(value)

    async def test_is_changed_all_or_nothing(self, store: Store) -> None:
        def fails(_: Held | None) -> HeldStep[None]:
            raise IllegalTransition("tomb", "start")

        other = (ORIGIN, "k" * 26)
        with pytest.raises(IllegalTransition):
            await store.change_held(
                [(self.KEY, lambda _: HeldStep(None, self.held())), (other, fails)]
            )
        assert await store.held(HeldState) == []

    async def test_is_told_apart_by_the_store_it_comes_from(self, store: Store) -> None:
        await self.keep(store, self.held())
        other = ("t" * 32, self.KEY[1])
        assert await store.change_held([(other, HeldStep)]) == [None]

    async def test_many_are_found_by_state(self, store: Store) -> None:
        def keep(state: HeldState, n: int) -> tuple[tuple[str, str], object]:
            key = (ORIGIN, f"{n:026}")
            held = Held(*key, "o" * 26, state, 1)
            return key, lambda _: HeldStep(None, held)

        states = list(HeldState) * 30
        await store.change_held([keep(state, n) for n, state in enumerate(states)])
        assert len(await store.held([HeldState.HAVE, HeldState.TOMB])) == 60
        assert len(await store.held(HeldState)) == 120

    async def test_can_be_removed(self, store: Store) -> None:
        await self.keep(store, self.held(), a_spec())
        await store.remove_held([self.KEY])
        assert await store.held(HeldState) == []
        assert await store.held_spec(self.KEY) is None
