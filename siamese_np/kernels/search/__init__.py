"""Searches over embeddings: squared distances, nearest neighbours, ranks of pairs."""
