"""A hall's worth of telemetry from one process: encoded once, only the sequence numbers are patched.

Usage: python load.py PORT CHANNELS PERIOD_S SECONDS [retained-only]

Prints "ready" once every channel has been published, retained, and then goes on for SECONDS.
"""

import socket
import sys
import time

CHANNELS_PER_STATION = 250
FIRST_SEQ = 1_000_000_000
"""Ten digits, so that a packet's length stays as it is."""


def topic(channel: int) -> str:
    return f"zeroloop/v1/main/station/s{channel // CHANNELS_PER_STATION}/channel/{channel}"


def telemetry(power_w: float) -> tuple[bytes, bytes]:
    """Return what stands before and after the sequence number."""
    before = b'{"boot_id":"bench","seq":'
    after = (
        b',"unix_time_s":1795412000.0,"work_status":"working","step_type":"cc_chg","step_id":3,"cycle_count":1,'
        b'"voltage_v":365.21,"current_a":%.3f,"power_w":%.1f,"temperature_degc":27.1,"soc_ratio":0.53,'
        b'"battery_connected":true,"equalization":null,"alarm":null}' % (power_w / 365.21, power_w)
    )
    return before, after


def status(station: int, channels: int) -> bytes:
    first = station * CHANNELS_PER_STATION
    names = ",".join(f'"{channel}"' for channel in range(first, min(first + CHANNELS_PER_STATION, channels)))
    return (
        f'{{"status":"online","boot_id":"bench","version":"1","driver":"bench","channels":[{names}],'
        f'"on_lost":"zero","unix_time_s":0.0}}'
    ).encode()


def publish(name: str, payload_bytes: int) -> bytes:
    """Return the head of a retained QoS 0 PUBLISH of MQTT 3.1.1."""
    text = name.encode()
    length = 2 + len(text) + payload_bytes
    digits = bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (128 if length else 0))
        if not length:
            break
    return b"\x31" + bytes(digits) + len(text).to_bytes(2, "big") + text


def main() -> None:
    port, channels, period_s, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    link = socket.create_connection(("127.0.0.1", port))
    name = b"load%d" % channels
    link.sendall(
        b"\x10" + bytes([12 + len(name)]) + b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
    )
    link.recv(4)
    for station in range((channels + CHANNELS_PER_STATION - 1) // CHANNELS_PER_STATION):
        payload = status(station, channels)
        link.sendall(publish(f"zeroloop/v1/main/station/s{station}/status", len(payload)) + payload)
    parts = []
    for channel in range(channels):
        # As many charge as discharge: the loop of the background is balanced.
        before, after = telemetry(20000.0 if channel % 2 else -20000.0)
        parts.append((publish(topic(channel) + "/telemetry", len(before) + 10 + len(after)) + before, after))
    slices = max(1, min(channels, round(period_s * 50)))
    sizes = [(number * channels // slices, (number + 1) * channels // slices) for number in range(slices)]

    def send(first: int, last: int, seq: int) -> None:
        number = b"%d" % seq
        link.sendall(b"".join(before + number + after for before, after in parts[first:last]))

    seq = FIRST_SEQ
    for first, last in sizes:
        send(first, last, seq)
    link.sendall(b"\xc0\x00")
    link.recv(2)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    started_s = time.monotonic()
    turn = 0
    while True:
        seq += 1
        for number, (first, last) in enumerate(sizes):
            due_s = started_s + (turn + number / slices) * period_s
            if due_s - started_s > seconds:
                return
            time.sleep(max(0.0, due_s - time.monotonic()))
            send(first, last, seq)
        turn += 1


main()
