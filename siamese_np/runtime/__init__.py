"""What runs the kernels: compiler and cache (jit), threads (scheduler, shards), memory that is used again (buffers)."""
