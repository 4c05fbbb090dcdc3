"""Collections of embeddings: made of any number of pictures, appended to, and searched exactly."""

from siamese_np.collection.index import nearest_rows, open_collection
from siamese_np.collection.store import Collection, Row, Writer

__all__ = ["Collection", "Row", "Writer", "nearest_rows", "open_collection"]
