"""Records of numbers and categories: read, scale, encode."""
