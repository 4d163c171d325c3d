"""Objectives that help joining: what is learned beside the tasks' losses, and how inputs are kept in balance."""
