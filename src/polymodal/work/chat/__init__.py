"""Talking to a model: a run, or a vision-language model; what is attached stays, answers come token by token."""
