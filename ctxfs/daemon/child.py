"""Ending a process that the daemon has started and that ends when its orders do."""

import trio


async def end_child(process: trio.Process, seconds: float) -> None:
    """Close its orders, so that it finishes what it is at; be firm after so long."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with trio.move_on_after(seconds):
        await process.wait()
        return
    process.kill()
    await process.wait()
