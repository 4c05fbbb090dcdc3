"""Every backward pass through the gradient checker, on random shapes, and at kinks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamese_np.distances import EuclideanDistance
from siamese_np.errors import OptionError
from siamese_np.gradcheck import assert_gradients
from siamese_np.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss
from siamese_np.network import SiameseNetwork
from siamese_np.presets import cnn, mlp

seeds = st.integers(0, 2**32 - 1)


def off_kinks(rng: np.random.Generator, shape) -> np.ndarray:
    """Distinct numbers, none near 0 and no two near each other: no tie, no kink within a step."""
    count = int(np.prod(shape))
    return (rng.permutation(count).reshape(shape) - count / 2 + 0.25) / count


# --- layers -----------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    seeds,
    st.integers(1, 3),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_conv2d(seed, N, image, C, window, F, stride, pad):
    if any(n + 2 * p < k for n, k, p in zip(image, window, pad, strict=True)):
        return
    layer = Conv2D(C, F, window, stride, pad, seed=seed, dtype=np.float64)
    assert_gradients(layer, np.random.default_rng(seed).standard_normal((N, *image, C)))


@given(seeds, st.integers(1, 5), st.integers(1, 9), st.integers(1, 6))
def test_dense(seed, N, D, E):
    assert_gradients(Dense(D, E, seed=seed, dtype=np.float64), np.random.default_rng(seed).standard_normal((N, D)))


@given(seeds, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_maxpool2d_with_and_without_overlap(seed, window, stride):
    assert_gradients(MaxPool2D(window, stride), off_kinks(np.random.default_rng(seed), (2, 6, 5, 3)))


@given(seeds, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_avgpool2d_with_overlap_and_with_gaps(seed, window, stride):
    x = np.random.default_rng(seed).standard_normal((2, 6, 5, 3))
    assert_gradients(AvgPool2D(window, stride), x)
    assert_gradients(GlobalAvgPool2D(), x)


def test_the_mean_of_the_textbook_example():
    x = np.array([1.0, 5, 3, 3]).reshape(1, 2, 2, 1)
    for layer in (AvgPool2D(2), GlobalAvgPool2D()):
        out, cache = layer.forward(x)
        assert out.item() == 3
        assert (layer.backward(np.full(out.shape, 8.0), cache) == 2).all()
    assert GlobalAvgPool2D().backward(np.ones((1, 1)), x.shape, need_dx=False) is None


@given(seeds)
def test_relu_and_flatten(seed):
    x = off_kinks(np.random.default_rng(seed), (3, 4, 2, 2))
    assert_gradients(ReLU(), x)
    assert_gradients(Flatten(), x)


# --- distance and loss ------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 5), st.integers(1, 6), st.sampled_from([1e-3, 1.0, 1e3]))
def test_euclidean_distance(seed, N, E, scale):
    a, b = scale * np.random.default_rng(seed).standard_normal((2, N, E))
    layer = EuclideanDistance()
    assert_gradients(layer.forward, a, b, backward=layer.backward)


@given(seeds, st.integers(1, 12), st.floats(0.3, 2))
def test_contrastive_loss(seed, N, margin):
    rng = np.random.default_rng(seed)
    dist, label, loss = rng.uniform(0.01, 2, N), rng.integers(0, 2, N), ContrastiveLoss(margin)
    if not ((label == 0) | (dist < margin)).any():
        label[0] = 0
    assert_gradients(
        lambda d: loss.forward(d, label), dist, backward=lambda dout, cache: loss.backward(cache, float(dout))
    )


@given(seeds, st.integers(2, 10), st.integers(1, 5))
def test_all_pairs_contrastive_loss(seed, N, E):
    rng = np.random.default_rng(seed)
    emb, classes = rng.standard_normal((N, E)), rng.integers(0, 3, N)
    emb[1], classes[1] = emb[0] + 0.2, classes[0]
    loss = AllPairsContrastiveLoss(margin=1.3)
    assert_gradients(
        lambda e: loss.forward(e, classes), emb, backward=lambda dout, cache: loss.backward(cache, float(dout))
    )


def test_all_pairs_loss_is_the_mean_over_balanced_pairs():
    rng = np.random.default_rng(0)
    emb, classes = rng.standard_normal((9, 4)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    losses = {0: [], 1: []}
    for i in range(9):
        for j in range(i):
            label = int(classes[i] != classes[j])
            dist = np.linalg.norm(emb[i] - emb[j])
            losses[label].append(ContrastiveLoss(3.0).forward(np.array([dist]), [label])[0])
    assert AllPairsContrastiveLoss(3.0).forward(emb, classes)[0] == pytest.approx(
        (np.mean(losses[0]) + np.mean(losses[1])) / 2
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_active_negatives_are_those_within_the_margin(dtype):
    emb, classes = np.array([[0.0], [0.5], [0.75], [2.5]], dtype), np.array([0, 1, 0, 1])
    loss = AllPairsContrastiveLoss(1.75, "active")  # 0.75 and 2.5 are at the margin: far enough
    gaps = np.array([1.25, 1.5])  # of 0 and 0.5, 0.5 and 0.75; not of 0 and 2.5
    similar, dissimilar = (0.75**2 + 2**2) / 2 / 2, (gaps**2 / 2).mean()
    value, cache = loss.forward(emb, classes)
    assert value == pytest.approx((similar + dissimilar) / 2)
    expected = np.array([0.75 * -1 / 2 + 1.25 / 2, -2 / 2 - 1.25 / 2 + 1.5 / 2, 0.75 / 2 - 1.5 / 2, 2 / 2]) / 2
    np.testing.assert_allclose(loss.backward(cache)[:, 0], expected, rtol=1e-6)
    far = np.array([[0.0], [3.0]], dtype)  # no active pair: no loss, not 0 / 0
    value, cache = loss.forward(far, [0, 1])
    assert value == 0 and (loss.backward(cache) == 0).all()
    with pytest.raises(OptionError, match="negatives are all or active, not 'hard'"):
        AllPairsContrastiveLoss(negatives="hard")


def slopes(function, x: float, h: float = 1e-7) -> tuple[float, float]:
    """Slopes left and right of x."""
    return (function(x) - function(x - h)) / h, (function(x + h) - function(x)) / h


def test_kinks_lie_between_the_slopes_of_both_sides():
    # ReLU at 0
    left, right = slopes(lambda t: float(ReLU().forward(np.full((1, 1), t))[0][0, 0]), 0.0)
    ours = ReLU().backward(np.ones((1, 1)), np.zeros((1, 1)))[0, 0]
    assert (left, ours, right) == (0, 0, pytest.approx(1))
    # the hinge at dist = margin: differentiable, slope 0 on both sides
    loss = ContrastiveLoss(1.0)
    left, right = slopes(lambda t: loss.forward(np.array([t]), [1])[0], 1.0)
    assert abs(left) < 1e-6 and right == 0 == loss.backward(loss.forward(np.array([1.0]), [1])[1])[0]
    # the distance at 0, in one coordinate: slopes -1 and 1
    distance, zero = EuclideanDistance(), np.zeros((1, 2))
    left, right = slopes(lambda t: float(distance.forward(np.array([[t, 0.0]]), zero)[0][0]), 0.0)
    ours = distance.backward(np.ones(1), distance.forward(zero, zero)[1])[0]
    assert (left, right) == (pytest.approx(-1), pytest.approx(1)) and (ours == 0).all()
    # a tie in a pooling window: the whole gradient goes to the first maximum
    x = np.ones((1, 2, 2, 1))
    dx = MaxPool2D(2).backward(np.ones((1, 1, 1, 1)), MaxPool2D(2).forward(x)[1])
    np.testing.assert_array_equal(dx.ravel(), [1, 0, 0, 0])


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("gap", [0, 5e-324, 1e-30, 1e-8])
def test_loss_of_pairs_at_and_near_distance_zero(label, gap):
    distance, loss = EuclideanDistance(), ContrastiveLoss(1.0)
    a, b = np.zeros((1, 3)), np.full((1, 3), gap, float)
    dist, cache = distance.forward(a, b)
    demb_a, demb_b = distance.backward(loss.backward(loss.forward(dist, [label])[1]), cache)
    assert np.isfinite(demb_a).all()
    if gap == 0:
        assert (demb_a == 0).all() and (demb_b == 0).all()
    elif label == 0:
        np.testing.assert_allclose(demb_a, a - b, rtol=1e-6, atol=5e-324)
    else:  # pushed apart with the full slope of the margin, however close
        assert np.linalg.norm(demb_a) == pytest.approx(1.0, rel=0.8 if gap < 1e-300 else 1e-6)
    classes = np.array([0, label])
    all_pairs = AllPairsContrastiveLoss(1.0)
    demb = all_pairs.backward(all_pairs.forward(np.concatenate([a, b]), classes)[1])
    assert np.isfinite(demb).all() and (gap != 0 or (demb == 0).all())


# --- both branches share their weights --------------------------------------------------------------------


@pytest.mark.parametrize("make", [cnn, mlp])
def test_one_batch_of_both_branches_equals_two_calls(make):
    rng = np.random.default_rng(0)
    siamese = SiameseNetwork(make((8, 8, 1), embedding_size=6, seed=1, dtype=np.float64))
    a, b = rng.random((2, 5, 8, 8, 1))
    label, loss, network = np.array([0, 1, 0, 1, 1]), ContrastiveLoss(1.0), siamese.network

    network.zero_grads()
    dist, cache = siamese.forward(a, b)
    siamese.backward(loss.backward(loss.forward(dist, label)[1]), cache)
    together = network.grads.copy()

    network.zero_grads()
    (emb_a, caches_a), (emb_b, caches_b) = network.forward(a), network.forward(b)
    two_dist, cache = EuclideanDistance().forward(emb_a, emb_b)
    demb_a, demb_b = EuclideanDistance().backward(loss.backward(loss.forward(two_dist, label)[1]), cache)
    network.backward(demb_a, caches_a)
    first_branch = network.grads.copy()
    network.backward(demb_b, caches_b)

    np.testing.assert_array_equal(dist, two_dist)
    np.testing.assert_allclose(network.grads, together, rtol=1e-12, atol=1e-15)
    assert abs(together - first_branch).max() > 1e-3  # the second branch counts
