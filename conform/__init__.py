"""The conformance kit: holds somebody else's station or equalizer against the contract, rule by rule."""
