"""One decision: `step(state, image, settings, now_s) -> (state, Decision)`."""
