"""What the equalizer's unit tests share."""

import asyncio

# pytest-asyncio asks for the current loop before its own; on Python 3.11 that makes one that nobody closes.
asyncio.set_event_loop(None)
