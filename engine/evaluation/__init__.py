"""The third phase: what is asked of a model, how its answers are marked, and the engine that gives them."""
