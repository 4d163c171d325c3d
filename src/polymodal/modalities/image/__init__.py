"""Pictures: reading, augmenting and encoding."""
