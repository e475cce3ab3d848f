"""A whole hall on one computer."""
