"""What was said on a loop, in a file: written while it is said, read back for export and replay."""
