"""How many primes are there? One job per thousand numbers, however many thousands there are."""

import asyncio
import sys
from collections.abc import Iterator

from offload import App, Node

app = App()
STEP = 1_000


@app.consumer("primes/count")
def count(start: int) -> int:
    return sum(
        all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        for number in range(max(start, 2), start + STEP)
    )


def starts(below: int) -> Iterator[int]:
    yield from range(0, below, STEP)  # never a list: the next one is made when there is room


async def main(below: int) -> None:
    async with Node.from_config(app=app) as node:
        total = 0
        async for found in node.map(count, starts(below), buffer=100):
            total += found
        print(f"{total} primes below {below}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
