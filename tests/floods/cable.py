"""Two computers and a cable: network namespaces, the broker's behind the rules of deploy/nftables. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RULES = Path(__file__).parents[2] / "deploy" / "nftables" / "zeroloop.nft"
SERVER, STRANGER = "10.78.0.1", "10.78.0.2"


def why_not() -> str | None:
    """Return why there can be no namespaces with rules here; None where there can."""
    if shutil.which("ip") is None or shutil.which("nft") is None:
        return "needs iproute2 and nftables"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if subprocess.run(["unshare", "-n", "nft", "-f", str(RULES)], check=False, capture_output=True).returncode != 0:
        return "this machine makes no network namespaces, or its kernel lacks what the rules need"
    return None


@contextmanager
def two_computers() -> Iterator[tuple[str, str]]:
    """Yield the names of the broker's namespace and of the stranger's."""
    names = f"zs{os.getpid()}", f"zr{os.getpid()}"
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, (SERVER, STRANGER), strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        subprocess.run([*inside(names[0]), "nft", "-f", str(RULES)], check=True, capture_output=True, timeout=10)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def inside(name: str) -> list[str]:
    """Return what a command line begins with to run in a namespace."""
    return ["ip", "netns", "exec", name]


def refused(name: str) -> dict[str, int]:
    """Return how many packets the rules of a namespace have refused, by what they limit."""
    listed = subprocess.run(
        [*inside(name), "nft", "list", "chain", "inet", "zeroloop", "broker"],
        check=True,
        capture_output=True,
        text=True,
        timeout=10,
    ).stdout
    counts: dict[str, int] = {}
    for line in listed.splitlines():
        if "counter packets" in line:
            limit = line.partition("@")[2].split()[0].rstrip("46")
            counts[limit] = counts.get(limit, 0) + int(line.partition("counter packets ")[2].split()[0])
    return counts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)
