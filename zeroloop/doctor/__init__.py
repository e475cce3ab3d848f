"""`zeroloop doctor` and `zeroloop purge`: what is wrong in a hall, and the command that mends it."""
