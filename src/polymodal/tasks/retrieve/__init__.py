"""Inputs in one space: what belongs together is near."""
