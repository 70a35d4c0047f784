"""The line protocol that every peer program speaks: one JSON object a line.

In:  {"id": 1, "do": "join", ...}
Out: {"ev": "reply", "id": 1, "t": 12.5, "ok": true, ...} for each command,
     {"ev": "presence", "t": 12.4, ...} for everything that happens by itself.
`t` is CLOCK_MONOTONIC in seconds, so that times of several peers on one machine compare.
"""

import asyncio
import json
import os
import sys
import threading
import time

_lock = threading.Lock()


def emit(event, **fields):
    """Writes one event; called from any thread."""
    line = json.dumps({"ev": event, "t": round(time.monotonic(), 6), **fields}) + "\n"
    with _lock:
        sys.stdout.write(line)
        sys.stdout.flush()


async def serve(commands):
    """Runs commands from stdin until it closes or `quit` comes.

    `commands` maps a command's name to a coroutine function that takes its fields as keyword
    arguments and returns a dict for the reply. Commands run side by side, so that a slow one
    (a join that is never answered) does not hold up the next.
    """
    loop = asyncio.get_running_loop()
    lines = asyncio.Queue()
    running = set()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    async def run(ident, name, fields):
        try:
            result = await commands[name](**fields)
            emit("reply", id=ident, ok=True, **(result or {}))
        except Exception as error:  # every failure is the reply, whatever it was
            emit("reply", id=ident, ok=False, error=type(error).__name__, text=str(error))

    threading.Thread(target=read, daemon=True).start()
    emit("ready", pid=os.getpid())
    while True:
        line = await lines.get()
        if line is None:
            return
        fields = json.loads(line)
        ident, name = fields.pop("id"), fields.pop("do")
        if name == "quit":
            emit("reply", id=ident, ok=True)
            return
        task = asyncio.ensure_future(run(ident, name, fields))
        running.add(task)
        task.add_done_callback(running.discard)
