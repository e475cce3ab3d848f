"""Long runs look ahead with compiled code, where the compiler is there (extra `simulation`)."""

LONG_S = 1200.0
"""To load the compiled code takes a second (the very first time, a quarter of a minute): less is not worth it."""


def hurry(virtual_s: float) -> None:
    """Have the searches of this process done by compiled code, if there is much to be done: they find the same.

    Args:
        virtual_s: of all contests together.
    """
    if virtual_s < LONG_S:
        return
    try:
        from simulation import answers, compiled  # noqa: PLC0415 - an extra, and slow to import
    except (ImportError, RuntimeError):
        return  # it is not there, or has nowhere to keep what it compiles: then as a server does it
    compiled.use()
    answers.use()
