"""The equalizer: adds up the loop and steers the equalization channels."""
