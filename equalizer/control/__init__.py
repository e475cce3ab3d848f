"""The control of the loop: pure functions over frozen values.

`LoopBook` draws a `LoopImage` from the messages; `step` decides on it.
"""
