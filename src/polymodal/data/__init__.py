"""Tables, splits, the ledger, datasets, caches and the loader. Knows no modality by name."""
