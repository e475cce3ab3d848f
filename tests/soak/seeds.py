"""Which modules take part in the soak, and how one seed of them is played."""

import logging
import traceback
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
_HALLS = """
1795400553 1795417695 1795421111 1795421115 1795500030 1795500321 1795500477 1795500574 1795600164
1795700040 5005 5326 5334
"""
_SERVERS = """
2002 2010 3008 3022 3054 3056 3121 3155 3166 3218 3247 3272 3288 3304 1795421960 1795430014 1795430025
1795430029 1795430056 1795440042 1795440070 1795450049 1795450084
1795470014 1795500328 1795500372 1795500454 1795600126 1795700053 1795800070
1795800239 1795900158 1795900163 1795900297 1796000263
"""
KNOWN = {"halls": tuple(map(int, _HALLS.split())), "servers": tuple(map(int, _SERVERS.split()))}
"""Seeds that have found something once: they are played first, and what they found has a test of its own."""


def modules() -> list[str]:
    """Return the names of the modules that play seeds."""
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith(("_", "test_")))
    return [name for name in names if hasattr(import_module(f"tests.soak.{name}"), "play")]


def played(name: str, seed: int) -> list[str]:
    """Play one seed of a module; a crash is a violation too."""
    logging.disable(logging.CRITICAL)
    try:
        found: list[str] = import_module(f"tests.soak.{name}").play(seed)
    except Exception:  # noqa: BLE001 - whatever it is, the seed must be named
        return traceback.format_exc().rstrip().splitlines()[-12:]
    finally:
        logging.disable(logging.NOTSET)
    return found
