"""The page: one more MQTT client, which shows a loop and asks on an operator's behalf."""
