"""Halls of thousands of channels in steps of one second: the loads as arrays, the rest as ever.

A scenario with `plant = "traces"` is run so:

- `course` works out beforehand what each test channel will draw, second by second, from its program and battery or its
  recording, and when its station would say so ahead.
- `wire` hands the loads' telemetry to the controller once a second, as arrays: what a network of the scenario's delay,
  jitter and loss would have delivered since the second before.
- `book` is the production's book with the loads in arrays. A batch does to it what the same messages would have done,
  one by one; the decisions are the same, to the bit (there is a test that runs a hall both ways).
- Equalization channels run as everywhere here: the production's station, driver and messages, ticked once a second.
  Their telemetry goes through the network as it is, not as bytes: writing it down and reading it again changes nothing.
- The control is the production's. It decides once a second, after the batch.

What is lost is what happens within a second. What loads tell of themselves is simpler than a station's: an end that
comes by voltage, current or charge is announced when it comes, and before that half of the time to it is called
certain.
"""
