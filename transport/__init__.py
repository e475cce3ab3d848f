"""MQTT for asyncio: what station, equalizer and command line have in common below the contract."""
