"""A plant of 1,000 channels in steps of one second: the processor's time, beside a plain pass over the same arrays."""

import time
from pathlib import Path

import numpy as np

import simulation
from simulation.hall import build
from simulation.plant.run import PlantContest, compete, race
from simulation.plant.wire import PlantLoads
from simulation.quick import hurry
from simulation.scenario import read
from tests.benchmarks.asked import Asked

SCENARIO = Path(simulation.__file__).parent / "scenarios" / "plant.toml"
PASSES = 20


def measure(asked: Asked) -> list[str]:
    """Return the section's lines."""
    scenario = read(SCENARIO)
    length_s = round(scenario.duration_s if asked.seconds is None else asked.seconds)
    # A minute first, with what a long run uses: nothing shall be compiled, or imported, while the time is taken.
    hurry(length_s)
    compete(scenario, SCENARIO.parent, duration_s=60.0)
    begin_s = time.process_time()
    hall = build(scenario, SCENARIO.parent, seed=scenario.seed)
    loads = PlantLoads(hall, length_s, scenario.telemetry.period_s, str(scenario.seed))
    loads_s = time.process_time() - begin_s
    begin_s = time.process_time()
    for second in range(length_s):
        for _ in range(PASSES):
            np.add.reduce(loads.power_w[second])
    reference_s = time.process_time() - begin_s
    lines = [
        f"{len(loads.keys)} test channels over {length_s / 3600.0:.2g} h. The reference is {PASSES} sums over them",
        "in every second. The time of a run is without that of the hall and its loads, which are made once for all;",
        "a good part of that is the same for any length, so a short run's 24 h are too many there.",
        "",
        "| | CPU s | CPU s for 24 h | by the reference |",
        "| --- | ---: | ---: | ---: |",
        _line("reference", reference_s, length_s, reference_s),
        _line("the hall and its loads", loads_s, length_s, reference_s),
    ]
    for variant in scenario.variant:
        loads = PlantLoads(hall, length_s, scenario.telemetry.period_s, str(scenario.seed))
        contest = PlantContest(variant, scenario, hall, loads, str(scenario.seed))
        begin_s = time.process_time()
        race(loads, (contest,), progress=lambda passed_s: None)  # noqa: ARG005 - nobody looks
        lines.append(_line(variant.name, time.process_time() - begin_s, length_s, reference_s))
    return lines


def _line(name: str, took_s: float, length_s: int, reference_s: float) -> str:
    return f"| {name} | {took_s:.1f} | {took_s * 86400.0 / length_s:.0f} | {took_s / reference_s:.1f} |"
