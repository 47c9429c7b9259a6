"""The second phase: a trial's replay elements become an adapter or full weights, with DeepSpeed under Ray Train."""
