"""The only place where clocks are read; everything else gets them handed in."""

import time

monotonic_s = time.monotonic  # noqa: TID251 - the composition root reads the clocks and passes them on
unix_time_s = time.time  # noqa: TID251 - as above; a label, never subtracted
