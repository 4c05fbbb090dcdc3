"""A Siamese network on MNIST with contrastive loss: every gradient by hand, in NumPy and Numba."""
