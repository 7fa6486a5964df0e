"""`sparkd reset-worker`: make a worker forget the cluster it belonged to, and what it ran there."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from .common import Failure, Usage, parser

EPILOG = """For a worker that shall join another cluster: it refuses a leader with a foreign cluster id, so that nothing runs twice by a
mix-up. Its processes' own directories with their output stay. What it has not reported yet is lost to the cluster: its journal is kept as
.sparkd.forgotten-TIME."""
END_TIMEOUT_S = 30.0


def reset_worker(argv: list[str]) -> int:
    """Forget."""
    options = parser("reset-worker", "Make a stopped worker forget its cluster, its epoch and its journal.", EPILOG)
    options.add_argument("--work-dir", "-d", required=True, metavar="DIR", help="SPARK_WORKER_DIR")
    options.add_argument("--end", action="store_true", help="end what still runs there")
    chosen = options.parse_args(argv)
    from ..processes.files import Layout, Lock, WorkDirError

    layout = Layout(Path(chosen.work_dir).absolute())
    if not layout.control.is_dir():
        raise Usage(f"--work-dir {chosen.work_dir}: no worker has used it (there is no {layout.control})")
    try:
        lock = Lock(layout)
    except WorkDirError as error:
        raise Failure(f"{error}; stop it first") from None
    try:
        running = asyncio.run(_running(layout.runs, chosen.end))
        if running:
            raise Failure(f"{', '.join(running)} still run{'s' if len(running) == 1 else ''} there: end them with --end, or wait")
        kept = layout.root / f".sparkd.forgotten-{time.strftime('%Y%m%d%H%M%S')}"
        shutil.rmtree(layout.runs, ignore_errors=True)  # commands as they were given, secrets included
        layout.control.rename(kept)
    finally:
        lock.release()
    print(f"forgotten; the journal is kept in {kept}")
    return 0


async def _running(runs: Path, end: bool) -> list[str]:
    """Return the names of what runs, after ending it when `end`."""
    from ..processes.keeping import Run

    found = []
    for path in sorted(runs.glob("*/*/*/")):
        run = Run(path)
        if await run.find() is not None:
            continue
        if end:
            run.terminate()
            try:
                async with asyncio.timeout(END_TIMEOUT_S):
                    await run.wait()
                continue
            except TimeoutError:
                run.kill()
                await run.wait()
                continue
        run.close()
        found.append(str(path.parent.relative_to(runs)))
    return found
