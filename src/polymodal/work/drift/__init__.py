"""Whether a table's rows are still like those that a run was trained on."""
