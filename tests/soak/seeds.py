"""Which modules take part in the soak, and how one seed of them is played."""

import logging
import traceback
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent


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
