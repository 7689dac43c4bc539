"""Leases in memory, on both sides; times are never compared between machines (rule 5)."""

import pytest

from offload.leases import GrantedTerms, WatchedTerms, watch_s

LEASE_S = 15.0


class TestTheOrigin:
    @pytest.fixture
    def terms(self) -> WatchedTerms:
        """Believes in attempt 1 of ``j`` since 100."""
        terms = WatchedTerms()
        terms.renew("j", 1, now=100.0, lease_s=LEASE_S)
        return terms

    def test_waits_longer_than_the_worker_may_run(self) -> None:
        """Rule 5: lease x 1.02 + 3 s."""
        assert watch_s(LEASE_S) == pytest.approx(18.3)

    def test_waits_for_a_whole_lease_and_grace(self, terms: WatchedTerms) -> None:
        assert terms.over(100.0 + watch_s(LEASE_S)) == []
        assert terms.over(100.1 + watch_s(LEASE_S)) == [("j", 1)]

    def test_says_so_until_somebody_acts(self, terms: WatchedTerms) -> None:
        assert terms.over(200.0) == terms.over(300.0) == [("j", 1)]
        terms.forget("j")
        terms.forget("j")
        assert terms.over(300.0) == []

    def test_begins_anew_with_every_sign(self, terms: WatchedTerms) -> None:
        terms.renew("j", 2, now=110.0, lease_s=LEASE_S)
        assert terms.over(110.0 + watch_s(LEASE_S)) == []
        assert terms.over(111.0 + watch_s(LEASE_S)) == [("j", 2)]


class TestTheWorker:
    @pytest.fixture
    def terms(self) -> GrantedTerms[str]:
        """May run ``j`` for a lease from 100."""
        terms: GrantedTerms[str] = GrantedTerms()
        terms.grant("j", sent_at=100.0, lease_s=LEASE_S)
        return terms

    def test_may_run_for_a_lease_from_when_it_asked(self, terms: GrantedTerms[str]) -> None:
        assert terms.holds("j", 114.9)
        assert not terms.holds("j", 115.0)
        assert terms.over(114.9) == []
        assert terms.over(115.0) == ["j"]

    def test_may_run_no_longer_by_an_old_answer(self, terms: GrantedTerms[str]) -> None:
        """C089."""
        terms.grant("j", sent_at=50.0, lease_s=LEASE_S)
        assert terms.holds("j", 114.9)
        assert not terms.holds("j", 115.0)

    def test_may_not_run_what_it_was_not_allowed(self, terms: GrantedTerms[str]) -> None:
        assert not terms.holds("other", 100.0)
        terms.forget("j")
        terms.forget("j")
        assert not terms.holds("j", 100.0)
        assert terms.over(200.0) == []

    def test_stops_before_the_origin_gives_it_to_another(self) -> None:
        """However long the answer took, and though the clocks drift apart by one per cent."""
        asked, answered, drift = 0.0, 0.0, 0.01
        assert asked + LEASE_S * (1 + drift) < answered + watch_s(LEASE_S) * (1 - drift)
