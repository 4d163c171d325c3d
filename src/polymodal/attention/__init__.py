"""Attention across inputs: streams -> streams of the same names, shapes and masks."""
