"""What fast kernels are built from: vectors, matrix products, lists of non-zeros, scratch memory."""
