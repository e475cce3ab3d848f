"""The control of the loop: pure functions over frozen values."""
