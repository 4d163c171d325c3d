"""Decoders: from a memory of tokens, and what was said so far, to what is said next."""
