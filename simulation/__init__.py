"""Whole halls in virtual time: the production's channels, drivers and control under one clock, without MQTT or sleep.

`scenario` reads what a hall is, `loads` plays its test channels, `run` sets controllers against them, `score` says how
well they did, `report` draws it. The same scenario and seed give the same run, bit for bit.
"""
