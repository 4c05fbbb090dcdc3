"""The estimator of scikit-learn: its own checks, all of them, and what people do with a transformer."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from siamese_np import load_model, save_model
from siamese_np.errors import OptionError, ShapeError, SiameseError, TrainingError
from siamese_np.estimator import SiameseEmbedder


@parametrize_with_checks([SiameseEmbedder()])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    """Every fourth image of scikit-learn's 8x8 digits to train, and the one after it to test, with their classes."""
    X, y = load_digits(return_X_y=True)
    return X[::4], y[::4], X[1::4], y[1::4]


@pytest.fixture(scope="module")
def fitted(digits):
    return SiameseEmbedder().fit(*digits[:2])


def accuracy(embedder, digits) -> float:
    """Share of the test samples whose nearest training sample is of their class."""
    indices = embedder.kneighbors(digits[2], 1, return_distance=False)
    return float((digits[1][indices[:, 0]] == digits[3]).mean())


def test_rows_are_learned(fitted, digits):
    assert fitted.image_shape_ is None and fitted.n_features_in_ == 64
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0] / 4
    assert accuracy(fitted, digits) > 0.94
    assert list(fitted.get_feature_names_out()[:2]) == ["siameseembedder0", "siameseembedder1"]


@pytest.mark.parametrize("preset", ["mlp", "cnn"])
def test_images_are_learned(digits, preset):
    X, y, X_test, y_test = digits
    images, test = X.reshape(-1, 8, 8), X_test.reshape(-1, 8, 8)
    embedder = SiameseEmbedder(preset, 16, epochs=10).fit(images, y)
    assert embedder.image_shape_ == (8, 8, 1) and embedder.data_range_ == 16
    assert accuracy(embedder, (images, y, test, y_test)) > 0.93
    np.testing.assert_array_equal(embedder.transform(test[..., None]), embedder.transform(test))
    with pytest.raises(ShapeError, match=r"was trained on images \(8, 8, 1\), not on rows of features"):
        embedder.transform(X)
    with pytest.raises(ShapeError, match=r"was trained on images \(8, 8, 1\), not on images \(8, 7, 1\)"):
        embedder.transform(images[:, :, 1:])


def test_the_same_seed_gives_the_same_embeddings(digits):
    first, same, other = (
        SiameseEmbedder(epochs=1, random_state=state).fit(*digits[:2]).embedding_
        for state in (1, np.random.RandomState(1), 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_a_unit_of_measure_changes_nothing(digits, fitted):
    factors = 2.0 ** np.random.default_rng(0).integers(-3, 4, 64)
    scaled = SiameseEmbedder().fit(digits[0] * factors + 1, digits[1])
    np.testing.assert_allclose(scaled.transform(digits[2] * factors + 1), fitted.transform(digits[2]), atol=1e-3)


def test_classes_may_be_text_and_samples_alone_in_theirs():
    X, y = np.random.default_rng(0).random((7, 3)), ["a", "b", "b", "c", "c", "d", "e"]
    assert SiameseEmbedder(epochs=1).fit(X, y).classes_.tolist() == ["a", "b", "c", "d", "e"]


def test_pairs_are_scored_by_their_distance(fitted, digits):
    X, y = digits[2:]
    pairs = np.stack([X[:-1], X[1:]], axis=1)
    scores = fitted.score_pairs(pairs)
    emb = fitted.transform(X)
    np.testing.assert_allclose(scores, -np.linalg.norm(emb[:-1] - emb[1:], axis=1), rtol=1e-5)
    similar = y[:-1] == y[1:]
    assert ((scores > -fitted.siamese_.threshold) == similar).mean() > 0.95
    for wrong in (X, pairs[:, :1], np.stack([pairs, pairs])):
        with pytest.raises(ValueError, match=r"pairs are an array|rows of features"):
            fitted.score_pairs(wrong)


def test_neighbours_of_the_training_samples_are_others(fitted):
    distances, indices = fitted.kneighbors(n_neighbors=3)
    assert indices.shape == distances.shape == (len(fitted.embedding_), 3)
    assert (indices != np.arange(len(indices))[:, None]).all() and (np.diff(distances) >= 0).all()
    copies = SiameseEmbedder(epochs=1).fit([[0.0]] * 4 + [[1.0]], [0, 0, 0, 0, 1])
    assert copies.kneighbors(n_neighbors=2, return_distance=False).tolist() == [
        *([1, 2], [0, 2], [0, 1], [0, 1], [0, 1]),
    ]
    with pytest.raises(OptionError, match="from 1 to the 4 other training samples, not 5"):
        copies.kneighbors()


def test_pipeline_grid_search_clone_and_pickle(digits):
    X, y, X_test, y_test = digits
    pipeline = make_pipeline(StandardScaler(), SiameseEmbedder(epochs=10), KNeighborsClassifier(3))
    grid = GridSearchCV(pipeline, {"siameseembedder__embedding_size": [4, 16]}, cv=2, n_jobs=2).fit(X, y)
    assert grid.score(X_test, y_test) > 0.9
    embedder = grid.best_estimator_[1]
    again = clone(embedder)
    assert again.get_params() == embedder.get_params() and not hasattr(again, "siamese_")
    scaled = grid.best_estimator_[0].transform(X_test)
    copy = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(copy.transform(scaled), embedder.transform(scaled))


def test_its_network_can_be_saved(fitted, digits, tmp_path):
    save_model(str(tmp_path / "model.npz"), fitted.siamese_)
    scaled = ((digits[2] - fitted.data_min_) / fitted.data_range_).astype(np.float32)
    np.testing.assert_array_equal(
        load_model(tmp_path / "model.npz").embed(scaled[:, None, None, :]), fitted.transform(digits[2]).astype("f4")
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"preset": "resnet"}, "there is no preset 'resnet'"),
        ({"preset": "cnn"}, r"the preset cnn needs images \(n, H, W\) or \(n, H, W, C\), not rows of features"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch size must be from 2"),
        ({"margin": -1}, "margin must be a finite number above 0"),
        ({"learning_rate": "fast"}, "learning rate must be a finite number"),
        ({"embedding_size": 0}, "at least 1"),
    ],
)
def test_wrong_parameters_are_told_by_fit(options, sentence, digits):
    with pytest.raises(SiameseError, match=sentence):
        SiameseEmbedder(**options).fit(*digits[:2])


def test_values_that_cannot_be_scaled_or_learned_are_told(monkeypatch):
    with pytest.raises(ShapeError, match="their range leaves that of float64"):
        SiameseEmbedder().fit([[-1.5e308], [1.5e308]], [0, 1])
    with pytest.raises(ShapeError, match="NaN or infinity"):
        SiameseEmbedder(epochs=1).fit([[0.0], [1e-30]], [0, 1]).transform([[1e20]])
    monkeypatch.setattr("siamese_np.estimator.SiameseNetwork.gradients", lambda *_: np.nan)
    with pytest.raises(TrainingError, match=r"became nan in epoch 1; lower the learning rate \(it is 0.003\)"):
        SiameseEmbedder().fit([[0.0], [1.0]], [0, 1])


def test_without_scikit_learn_one_sentence_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import siamese_np.estimator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = "ImportError: siamese_np.estimator needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'"
    assert done.stderr.splitlines()[-1] == last and "During handling" not in done.stderr
