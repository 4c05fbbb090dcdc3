"""The Siamese network as a transformer of scikit-learn: samples and their classes in, embeddings out."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError("siamese_np.estimator needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'") from None

from siamese_np._checks import is_whole
from siamese_np.config import TrainConfig
from siamese_np.errors import DataError, OptionError, ShapeError, TrainingError
from siamese_np.losses import AllPairsContrastiveLoss
from siamese_np.metrics import nearest
from siamese_np.network import SiameseNetwork
from siamese_np.optimizers import Adam, one_cycle
from siamese_np.pairs import balanced_batches
from siamese_np.presets import make_network

Array = NDArray[Any]


class SiameseEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns embeddings in which samples of a class are close, with contrastive loss over all pairs of a batch.

    Samples are rows ``(n, features)``, or images ``(n, H, W)`` or ``(n, H, W, C)``. They are scaled inside, to [0, 1]
    on the training samples: each feature by its own least and greatest value, all pixels of images by one.

    Parameters
    ----------
    preset : str, default "mlp"
        ``"mlp"``, or for images ``"cnn"``, ``"cnn3"`` or ``"slim"``.
    embedding_size : int, optional
        Numbers of an embedding; by default as many as the preset has, 128 of ``"mlp"``.
    epochs : int, default 30
    batch_size : int, default 64
        Samples of a step, at least 2; the classes have their share of each.
    margin : float, default 1.0
        Distance from which on samples of two classes are far enough.
    learning_rate : float, default 3e-3
        At the top of a one-cycle schedule of Adam.
    random_state : int, RandomState or None, default 0
        Seed of the weights and of the order of the samples.

    Attributes
    ----------
    classes_ : (K,) ndarray
    siamese_ : SiameseNetwork
        The trained network, of scaled images (n, H, W, C); rows are images (n, 1, 1, features) to it.
    embedding_ : (n, embedding_size) ndarray of float32
        Of the training samples.
    loss_curve_ : list of float
        Mean loss of each epoch.
    image_shape_ : tuple of int or None
        Shape of one image; None for rows.
    data_min_, data_range_ : ndarray
        Scaled samples are ``(X - data_min_) / data_range_``.
    n_features_in_ : int
        Of images the number of pixels, times channels.
    feature_names_in_ : ndarray of str
        Where X has column names.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> embedder = SiameseEmbedder(embedding_size=2).fit(X[::2], y[::2])
    >>> embedder.transform(X[1::2]).shape
    (75, 2)
    >>> _, indices = embedder.kneighbors(X[1::2], n_neighbors=1)
    >>> bool((y[::2][indices[:, 0]] == y[1::2]).mean() > 0.9)
    True
    """

    image_shape_: tuple[int, ...] | None

    def __init__(
        self,
        preset: str = "mlp",
        embedding_size: int | None = None,
        *,
        epochs: int = 30,
        batch_size: int = 64,
        margin: float = 1.0,
        learning_rate: float = 3e-3,
        random_state: Any = 0,
    ) -> None:
        self.preset = preset
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.margin = margin
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "SiameseEmbedder":
        """Train a network on samples X and their classes y (n,), numbers or text.

        Raises
        ------
        ValueError
            X or y is not as described, y holds one class, or a parameter is out of range.
        TrainingError
            The loss is no longer finite.
        """
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        names = ("preset", "epochs", "batch_size", "margin", "learning_rate")
        config = TrainConfig(seed=seed, **{name: getattr(self, name) for name in names})
        X, y = self._validated(X, y=y)
        check_classification_targets(y)
        self.classes_, classes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("SiameseEmbedder needs samples of at least two classes, but y holds 1 class")
        axis = 0 if self.image_shape_ is None else None
        with np.errstate(over="ignore"):
            self.data_min_, extent = X.min(axis=axis), np.ptp(X, axis=axis)
        if not np.isfinite(extent).all():
            raise ShapeError(f"the values of X lie too far apart to be scaled: their range leaves that of {X.dtype}")
        self.data_range_ = np.where(extent > 0, extent, 1).astype(X.dtype)

        if self.image_shape_ is None and config.preset != "mlp":
            raise ShapeError(f"the preset {config.preset} needs images (n, H, W) or (n, H, W, C), not rows of features")
        images = self._images(X)
        size = {} if self.embedding_size is None else {"embedding_size": self.embedding_size}
        network = make_network(config.preset, input_shape=images.shape[1:], seed=seed, **size)
        self.siamese_ = SiameseNetwork(network, config.margin)
        loss, optimizer = AllPairsContrastiveLoss(config.margin), Adam(network, weight_decay=config.weight_decay)
        batch_size = min(config.batch_size, len(X))
        total = config.epochs * math.ceil(len(X) / batch_size)
        self.loss_curve_: list[float] = []
        for epoch in range(config.epochs):
            values = []
            for batch in balanced_batches(classes, batch_size, np.random.default_rng([seed, 1, epoch])):
                network.zero_grads()
                values.append(self.siamese_.gradients(images[batch], classes[batch], loss))
                optimizer.step(config.learning_rate * one_cycle(optimizer.steps / total))
            self.loss_curve_.append(float(np.mean(values)))
            if not math.isfinite(self.loss_curve_[-1]):
                raise TrainingError(
                    f"the loss became {self.loss_curve_[-1]} in epoch {epoch + 1}; lower the learning rate "
                    f"(it is {config.learning_rate:g})"
                )
        self.embedding_ = self.siamese_.embed(images)
        self._n_features_out = self.embedding_.shape[1]
        return self

    def transform(self, X: Any) -> Array:
        """Embeddings (n, embedding_size) of samples X, as float32 where X is, else as float64."""
        check_is_fitted(self, "embedding_")
        X = self._validated(X)
        return self.siamese_.embed(self._images(X)).astype(X.dtype)

    def score_pairs(self, pairs: Any) -> Array:
        """How alike the samples of each pair are: minus the distance of their embeddings, so higher is more similar.

        Parameters
        ----------
        pairs : (P, 2, features), (P, 2, H, W) or (P, 2, H, W, C) array

        Returns
        -------
        scores : (P,) ndarray
            At most 0. The samples of a pair count as similar above ``-siamese_.threshold``, half the margin.
        """
        check_is_fitted(self, "embedding_")
        pairs = np.asarray(pairs)
        if pairs.ndim < 3 or pairs.shape[1] != 2:
            raise ShapeError(f"pairs are an array (P, 2, ...) of samples, not {pairs.shape}")
        a, b = (self._embed(pairs[:, side]) for side in (0, 1))
        return -np.linalg.norm(a - b, axis=1)

    def kneighbors(self, X: Any = None, n_neighbors: int = 5, return_distance: bool = True) -> Any:
        """The training samples whose embeddings are nearest to those of X.

        Parameters
        ----------
        X : array, optional
            Samples; by default the training samples, none of which is its own neighbour.
        n_neighbors : int, default 5
        return_distance : bool, default True

        Returns
        -------
        distances : (n, n_neighbors) ndarray of float64
            Ascending; only if `return_distance`.
        indices : (n, n_neighbors) ndarray of int
            Rows of the training samples.
        """
        check_is_fitted(self, "embedding_")
        if X is not None:
            indices, distances = nearest(self._embed(X), self.embedding_, n_neighbors)
        elif not is_whole(n_neighbors) or not 1 <= n_neighbors < len(self.embedding_):
            raise OptionError(
                f"n_neighbors must be a whole number from 1 to the {len(self.embedding_) - 1} other training samples, "
                f"not {n_neighbors!r}"
            )
        else:
            indices, distances = nearest(self.embedding_, self.embedding_, n_neighbors + 1)
            others = indices != np.arange(len(indices))[:, None]
            others[others.all(axis=1), -1] = False  # so many copies of it come first that it is not among them itself
            indices, distances = (array[others].reshape(-1, n_neighbors) for array in (indices, distances))
        return (distances, indices) if return_distance else indices

    def _validated(self, X: Any, **y: Any) -> Any:
        """X as rows of float32 or float64, from `fit` with y beside it; ValueError where they do not fit."""
        fitting, shape = "y" in y, None
        if hasattr(X, "shape") and len(X.shape) in (3, 4):
            shape = (*X.shape[1:], 1)[:3]
            X = np.asarray(X).reshape(len(X), math.prod(shape))
        if not fitting and shape != self.image_shape_:
            trained, given = (f"images {form}" if form else "rows of features" for form in (self.image_shape_, shape))
            raise ShapeError(f"SiameseEmbedder was trained on {trained}, not on {given}")
        checked = validate_data(
            self, X, reset=fitting, dtype=[np.float64, np.float32], ensure_min_samples=1 + fitting, **y
        )
        if fitting:
            self.image_shape_ = shape
        return checked

    def _images(self, X: Array) -> Array:
        """Rows as the network takes them, scaled, as images (n, H, W, C)."""
        shape = self.image_shape_ or (1, 1, X.shape[1])
        with np.errstate(over="ignore"):  # told as infinity
            return ((X - self.data_min_) / self.data_range_).astype(np.float32).reshape(len(X), *shape)

    def _embed(self, X: Any) -> Array:
        return self.siamese_.embed(self._images(self._validated(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
