"""What tests with TLS share: a hall's own authority, a Mosquitto with its configuration, and everybody's one file."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from broker.authority import Authority, found, opened
from broker.run import RunningBroker, start
from transport.credentials import Role


@dataclass
class Hall:
    """An authority's folder, and the broker that it configures."""

    folder: Path
    port: int
    roles: dict[str, Role] = field(default_factory=dict)

    def let_in(self, role: Role, *names: str, days: float = 825.0) -> None:
        with opened(self.folder, time.time()) as authority:
            for name in names:
                authority.issue(name, role, days)
                self.roles[name] = role

    def revoke(self, name: str) -> None:
        with opened(self.folder, time.time()) as authority:
            authority.revoke(name)

    def renew(self, name: str) -> None:
        with opened(self.folder, time.time()) as authority:
            authority.renew(name)

    def file(self, name: str) -> Path:
        return self.folder / "clients" / f"{name}.zeroloop"

    def kept(self, name: str) -> Path:
        """A copy of a client's file, as it lies on its computer whatever the authority does."""
        copy = self.folder / f"{name}.kept"
        shutil.copy(self.file(name), copy)
        return copy

    def start(self, data_dir: Path) -> RunningBroker:
        """Start Mosquitto with the configuration as it was made; a root's Mosquitto would become another user."""
        config = self.folder / "broker" / "mosquitto.conf"
        if os.geteuid() == 0:
            config = self.folder / "as-root.conf"
            config.write_text((self.folder / "broker" / "mosquitto.conf").read_text() + "user root\n")
        return start("mosquitto", config=config, data_dir=data_dir)

    def options(self, who: str, file: Path | None = None) -> list[str]:
        """The options of mosquitto_pub and mosquitto_sub: the one file is all three."""
        own = str(self.file(who) if file is None else file)
        return [
            "-V", "5", "-h", "127.0.0.1", "-p", str(self.port), "--cafile", own, "--cert", own, "--key", own,
        ]  # fmt: skip

    def publish(self, who: str, topic: str, payload: str = "x", *more: str) -> None:
        self.mosquitto_pub(who, "-q", "1", "-t", topic, "-m", payload, *more, check=True)

    def mosquitto_pub(
        self, who: str, *words: str, check: bool = False, file: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        command = ["mosquitto_pub", *self.options(who, file), *words]
        return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)

    def listen(self, who: str, heard: Path, *more: str, file: Path | None = None) -> "subprocess.Popen[bytes]":
        """Subscribe to everything; returns once the broker has taken the subscription."""
        words = more if "-F" in more else ("-F", "%t %p", *more)
        with heard.open("wb") as out:
            process = subprocess.Popen(
                ["stdbuf", "-oL", "mosquitto_sub", *self.options(who, file), "-t", "#", "-q", "1", "-d", *words],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        for _ in range(1200):
            if "Subscribed (mid" in heard.read_text(errors="replace"):
                return process
            time.sleep(0.05)
        process.kill()
        process.wait()
        raise AssertionError(heard.read_text(errors="replace"))


def make_hall(folder: Path, port: int, *, loop: str | None = None) -> Hall:
    """Make an authority for a broker on this computer."""
    authority: Authority = found(folder, ["localhost", "127.0.0.1"], time.time(), port=port, loop=loop)
    return Hall(authority.folder, port)
