"""What visitors see: thin, with no text of its own."""
