"""The wire contract as code: the only thing that station and equalizer share."""
