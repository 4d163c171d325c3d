"""One folder per modality: how its cells are read, augmented and encoded. What must agree lives together."""
