"""The known models: shape, arithmetic (parameters, FLOPs, bytes), the source of their weights, and the weights."""
