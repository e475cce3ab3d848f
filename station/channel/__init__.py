"""The life of a channel: pure functions over frozen values."""
