"""Graph kernel complexity: which edges of a graph make its labels hard to learn, sanitization by it, and attacks."""
