"""The contract's rules over recorded traffic. Pure."""
