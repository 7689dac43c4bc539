"""Jobs in number, and what became of them: by the ledger, by their files, by their origin."""

from typing import Any

from tests.lab.hosts import Host, Lan


class Batch:
    """Jobs of ``origin`` that wait for some seconds each, and write a file into one folder."""

    def __init__(self, origin: Host, lan: Lan) -> None:
        self.jobs: list[str] = []
        self._origin = origin
        self._lan = lan
        self._into = lan.folder / "done"

    async def add(self, count: int, seconds: float, **options: Any) -> None:
        """Add jobs."""
        async with self._origin.ask() as client:
            submitter = client.options(into=str(self._into), **options)
            for _ in range(count):
                self.jobs.append((await submitter.submit("lab/wait", seconds=seconds)).id)

    async def info(self) -> list[dict[str, Any]]:
        """Return what the origin says of the jobs."""
        async with self._origin.ask() as client:
            return [await client.describe(job) for job in self.jobs]

    async def fates(self) -> list[tuple[Any, ...]]:
        """Return what has become of the jobs, for good."""
        fields = ("state", "attempt", "worker", "finished", "outputs")
        return [tuple(job[field] for field in fields) for job in await self.info()]

    async def succeeded(self) -> bool:
        """Say whether all have."""
        return all(job["state"] == "succeeded" for job in await self.info())

    def hosts(self, what: str) -> dict[str, list[str]]:
        """Return, for each job, the hosts where it ``began`` or ``ended``, by the ledger."""
        entries = [e for e in self._lan.entries() if e["what"] == what]
        return {job: [e["host"] for e in entries if e["job"] == job] for job in self.jobs}

    def under_way(self, host: Host) -> dict[str, int]:
        """Return the jobs that have begun at ``host`` and not ended there; job -> process."""
        pids: dict[str, int] = {}
        for entry in self._lan.entries():
            if entry["host"] == host.name and entry["what"] == "began":
                pids[entry["job"]] = entry["pid"]
            elif entry["host"] == host.name and entry["what"] == "ended":
                pids.pop(entry["job"], None)
        return pids

    def brought(self) -> dict[str, tuple[str, int]]:
        """Return what each output file at the origin tells: host and attempt, by job."""
        words = {path.stem: path.read_text("utf-8").split() for path in self._into.glob("*")}
        words = {job: words[job] for job in self.jobs if job in words}
        return {job: (host, int(attempt)) for job, (host, attempt) in words.items()}
