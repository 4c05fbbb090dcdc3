"""Collections of embeddings: made of any number of pictures, appended to, searched, and pictures classified by them."""
