"""The audit log: who asked what of the loop, under which epoch, on what basis, and what became of it."""
