"""Where images come from: IDX files, the bundled MNIST, and a person's own pictures."""

from siamese_np.datasets.idx import read_idx
from siamese_np.datasets.mnist import Dataset, Split, load_dataset

__all__ = ["Dataset", "Split", "load_dataset", "read_idx"]
