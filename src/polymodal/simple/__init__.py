"""Simple models, fitted on the rows that the model is trained on: a model counts only beside the best of them."""
