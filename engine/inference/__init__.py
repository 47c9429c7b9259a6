"""How a conversation becomes tokens, and vLLM, which answers in self-play and in evaluation."""
