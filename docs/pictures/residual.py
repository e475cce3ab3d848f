"""Draws the README's picture from a real run of the demo: what the grid sees, with and without balancing.

Usage: python docs/pictures/residual.py [SECONDS] [OUT.svg]
"""

import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl

from schemas.codec import decode
from schemas.messages import LoopBalance
from schemas.settings import BrokerSettings
from schemas.topics import LoopTopic, loop_topic
from transport.session import Session

mpl.use("svg")
from matplotlib import pyplot as plt


async def record(seconds: float) -> list[tuple[float, LoopBalance]]:
    """Run the demo and return its balances with the time at which each came."""
    seen: list[tuple[float, LoopBalance]] = []
    with tempfile.TemporaryFile() as silence:
        demo = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "zeroloop",
            "demo",
            "--seconds",
            f"{seconds:g}",
            stdout=asyncio.subprocess.PIPE,
            stderr=silence,
        )
        if demo.stdout is None:
            raise SystemExit("the demo has no output")
        port = 0
        while not port:
            line = (await demo.stdout.readline()).decode()
            if not line:
                raise SystemExit("the demo ended before it named its broker")
            found = re.search(r"on 127\.0\.0\.1:(\d+)", line)
            port = int(found[1]) if found else 0

        def on_message(_topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - the session's callback
            if not retained:
                seen.append((time.monotonic(), decode(LoopBalance, payload)))

        session = Session(
            BrokerSettings(port=port),
            client_id="picture",
            on_message=on_message,
            on_connected=lambda: session.subscribe((loop_topic("demo", LoopTopic.BALANCE), 0)),
            clock=time.monotonic,
        )
        running = asyncio.create_task(session.run())
        await demo.communicate()
        await session.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return seen


def draw(seen: list[tuple[float, LoopBalance]], out: Path) -> None:
    """Draw the picture."""
    start_s = seen[0][0]
    times_s = [at_s - start_s for at_s, _ in seen]
    without_kw = [balance.load_power_w / 1e3 for _, balance in seen]
    with_kw = [balance.total_power_w / 1e3 for _, balance in seen]
    mpl.rcParams["svg.hashsalt"] = "zeroloop"
    figure, axes = plt.subplots(figsize=(9.0, 3.4), layout="constrained")
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.step(times_s, without_kw, where="post", color="#c44e52", linewidth=1.4, label="without balancing")
    axes.fill_between(times_s, with_kw, step="post", color="#4c72b0", alpha=0.35, linewidth=0)
    axes.step(times_s, with_kw, where="post", color="#4c72b0", linewidth=1.4, label="with zeroloop")
    axes.set_xlabel("time, s")
    axes.set_ylabel("power at the grid, kW\n(positive: drawn)")
    axes.set_xlim(0.0, times_s[-1])
    axes.legend(loc="upper right", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Record, draw, and say what was seen."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_suffix(".svg")  # noqa: PLR2004 - two words
    seen = asyncio.run(record(seconds))
    draw(seen, out)
    late = seen[len(seen) // 3 :]
    without_w = sum(abs(balance.load_power_w) for _, balance in late) / len(late)
    with_w = sum(abs(balance.total_power_w) for _, balance in late) / len(late)
    sys.stdout.write(
        f"mean |power| at the grid in the last two thirds: without {without_w:.0f} W, with {with_w:.0f} W, "
        f"{with_w / without_w:.1%}; {seen[-1][1].setpoint_changes} setpoint changes\n"
    )


main()
