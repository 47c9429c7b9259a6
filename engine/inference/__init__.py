"""How a conversation becomes tokens, and vLLM as the engine that self-play and evaluation share."""
