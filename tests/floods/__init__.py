"""Rogue clients beside a loop of real processes. `python -m tests.floods` measures them all."""
