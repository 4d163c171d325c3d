"""Numeric series over time: read, augment, encode."""
