"""The consumers that are measured: they do nothing, so that all that is left is ours."""

from offload import App, File

app = App()


@app.consumer("bench/noop")
async def noop(data: bytes) -> int:
    return len(data)


@app.consumer("bench/child", isolate="process")
def child(data: bytes) -> int:
    return len(data)


@app.consumer("bench/file")
async def file(content: File) -> int:
    return content.path.stat().st_size
