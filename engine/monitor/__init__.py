"""The progress line of long work, and errors of remote work as failures of trials."""
