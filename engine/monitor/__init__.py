"""The progress line of long work."""
