"""What station, equalizer and command line have in common below the contract: MQTT for asyncio, and durable files."""
