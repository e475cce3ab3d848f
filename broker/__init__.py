"""The broker: Mosquitto where it is installed, else the embedded default."""
