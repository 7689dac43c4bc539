"""A consumer that takes a while, ``PAUSE_PACE`` times as fast; tells who ran it, and when."""

import asyncio
import os
import time

from offload import App

app = App()


@app.consumer("pause/for")
async def pause(seconds: float) -> list[str | float]:
    began = time.monotonic()
    await asyncio.sleep(seconds / float(os.environ.get("PAUSE_PACE", "1")))
    return [os.environ.get("PAUSE_NAME", ""), began, time.monotonic()]
