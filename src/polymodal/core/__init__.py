"""The law of the house: errors, the spec, the catalogue of parts, streams and contracts."""
