"""The known models: shape, arithmetic (parameters, operations, bytes), where their weights come from."""
