from siamese_np.runtime.shards import atomic_add as count
from siamese_np.runtime.shards import sharded

__all__ = ["count", "sharded"]
