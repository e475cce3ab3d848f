"""What every test that runs a command in its own process needs."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has a memory of brokers, too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
