"""Finding and serving: the search index, the HTTP API and its page."""
