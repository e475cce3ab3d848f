"""The settings of who is tried: quick ones. They are joined as a file needs them."""

STATION = """\
[station]
id = "s1"
loop = "{loop}"
on_lost = "zero"
[telemetry]
period_s = 0.2
"""
CHANNEL = """\
[[channel]]
id = "{channel}"
charge_limit_w = 30000.0
discharge_limit_w = 30000.0
ramp_w_per_s = 60000.0
battery = {{ capacity_ah = 200.0, series = 96 }}
"""
EQUALIZER = """\
[loop]
name = "{loop}"
[control]
policy = "confirm"
delay_s = 1.5
[telemetry]
period_s = 0.5
[setpoint]
ttl_s = 4.0
refresh_s = 1.0
[discovery]
advertise = false
[metrics]
port = 0
"""
BROKER = """\
[broker]
port = {port}
"""
