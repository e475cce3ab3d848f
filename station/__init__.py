"""One process per cycler: publishes its channels and runs what they do."""
