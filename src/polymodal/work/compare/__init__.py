"""Which way of joining modalities works, and how do we know: trials, statistics, the page that tells it."""
