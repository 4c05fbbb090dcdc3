"""Distances and losses refuse what is no distance, label or margin, and give the right value for all that is one."""

import numpy as np
import pytest

from siamese_np._checks import check_embeddings
from siamese_np.backend import BACKENDS, use_kernels
from siamese_np.distances import EuclideanDistance, PairwiseDistances
from siamese_np.errors import OptionError, ShapeError
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss, SupConLoss


@pytest.mark.parametrize("kind", [int, np.uint8, np.float16, np.float32, np.float64, np.longdouble, ">f4", ">i2"])
def test_distances_of_any_real_dtype_give_the_right_loss(kind):
    loss = ContrastiveLoss(1.5)
    value, cache = loss.forward(np.array([1, 3, 0, 2], kind), [0, 0, 1, 1])
    assert value == (1 / 2 + 9 / 2 + 1.5**2 / 2 + 0) / 4
    ddist = loss.backward(cache)
    assert ddist.tolist() == [1 / 4, 3 / 4, -1.5 / 4, 0]
    assert ddist.dtype == (np.float32 if kind is np.float32 else np.float64)


def test_a_list_of_whole_distances_is_no_list_of_whole_losses():
    assert ContrastiveLoss().forward([1, 1], [0, 0])[0] == ContrastiveLoss().forward([0, 0], [1, 1])[0] == 0.5


@pytest.mark.parametrize(
    ("dist", "sentence"),
    [
        ([1 + 0j, 1], "real numbers, not complex128"),
        ([True, False], "real numbers, not bool"),
        (["1", "2"], "real numbers, not <U1"),
        ([None, 1], "real numbers, not object"),
        ([0.5, -0.25], r"at least 0, but dist\[1\] is -0.25"),
        ([-1, 1], r"at least 0, but dist\[0\] is -1"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "dist must be an array without a mask"),
        ([[1.0], [1.0, 2.0]], "dist must be an array, but a list that makes none"),
        ([[1.0, 2.0]], r"equally long and not empty, not \(1, 2\) and \(2,\)"),
        ([1.0], "equally long"),
    ],
)
def test_what_is_no_distance_is_refused(dist, sentence):
    with pytest.raises(ShapeError, match=sentence):
        ContrastiveLoss().forward(dist, [0, 1])


def test_a_distance_that_is_no_number_stays_visible():
    value, cache = ContrastiveLoss().forward([np.nan, 1.0], [0, 1])
    assert np.isnan(value) and np.isnan(ContrastiveLoss().backward(cache)[0])


def test_masked_embeddings_are_refused():
    emb, masked = np.ones((2, 3)), np.ma.ones((2, 3))
    _, cache = EuclideanDistance().forward(emb, emb)
    for call in (
        lambda: EuclideanDistance().forward(emb, masked),
        lambda: EuclideanDistance().backward(np.ma.ones(2), cache),
        lambda: AllPairsContrastiveLoss().forward(masked, [0, 1]),
        lambda: check_embeddings("emb", masked),
    ):
        with pytest.raises(ShapeError, match="must be an array without a mask"):
            call()


@pytest.mark.parametrize("number", [1e-300, 1e-16, 1e16, 1e300])
def test_a_margin_whose_square_may_be_no_float32_is_refused(number):
    with pytest.raises(OptionError, match=r"the margin must be from 1e-15 to 1e\+15, not"):
        ContrastiveLoss(number)


@pytest.mark.parametrize("number", [None, "1", True, np.nan, np.inf, 1j, np.ones(2), 10**400])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(OptionError, match="the margin must be a finite number above 0, not"):
        ContrastiveLoss(number)
    of_pairs, all_pairs = ContrastiveLoss(), AllPairsContrastiveLoss()
    for loss, cache in (
        (of_pairs, of_pairs.forward([1.0], [0])[1]),
        (all_pairs, all_pairs.forward(np.eye(2), [0, 0])[1]),
    ):
        with pytest.raises(OptionError, match="dloss must be a finite number, not"):
            loss.backward(cache, number)


@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_of_a_batch_and_their_gradients(kernels, dtype):
    emb = np.random.default_rng(0).standard_normal((21, 7))
    emb[4] = emb[3]  # at distance 0, of which the gradient is 0
    ddist, distances = np.random.default_rng(1).standard_normal((21, 21)), PairwiseDistances()

    def value(x):
        return float((np.linalg.norm(x[:, None] - x, axis=2) * ddist).sum())

    with use_kernels(kernels):
        dist, cache = distances.forward(emb.astype(dtype))
        demb = distances.backward(ddist.astype(dtype), cache)
    assert dist.dtype == demb.dtype == dtype
    np.testing.assert_allclose(dist, np.linalg.norm(emb[:, None] - emb, axis=2), rtol=1e-5, atol=1e-6)
    ddist[3, 4] = ddist[4, 3] = 0
    numeric = np.zeros_like(emb)
    for i in np.ndindex(emb.shape):
        step = np.zeros_like(emb)
        step[i] = 1e-6
        numeric[i] = (value(emb + step) - value(emb - step)) / 2e-6
    np.testing.assert_allclose(demb, numeric, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_distances_of_a_batch_is_refused():
    distances = PairwiseDistances()
    dist, cache = distances.forward(np.eye(3))
    for ddist in (np.ones((3, 2)), np.ones((3, 3), np.float32), np.ma.ones((3, 3)), "x"):
        with pytest.raises(ShapeError, match=r"PairwiseDistances needs ddist of|ddist must be"):
            distances.backward(ddist, cache)
    for wrong in (None, (dist,), (dist, np.eye(4)), (np.ones((2, 2)), np.eye(3))):
        with pytest.raises(ShapeError, match="PairwiseDistances needs the cache that its own forward returned"):
            distances.backward(dist, wrong)
    for wrong in (np.ones(3), np.ones((3, 3), int), None):
        with pytest.raises(ShapeError, match="emb must be"):
            distances.forward(wrong)


def supcon(emb, classes, temperature):
    """Equation 2 of Khosla et al. 2020, term by term."""
    unit = [e / np.linalg.norm(e) if e.any() else e for e in emb]
    losses = []
    for i in range(len(emb)):
        others = [a for a in range(len(emb)) if a != i]
        same = [p for p in others if classes[p] == classes[i]]
        total = sum(np.exp(unit[i] @ unit[a] / temperature) for a in others)
        if same:
            losses.append(-np.mean([np.log(np.exp(unit[i] @ unit[p] / temperature) / total) for p in same]))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("temperature", [0.05, 1.0, 10.0])
def test_supcon_is_its_equation_and_its_gradient_the_slope(temperature):
    emb, classes = np.random.default_rng(0).standard_normal((8, 3)), np.array([0, 0, 1, 1, 1, 2, 3, 3])
    emb[4] *= 1e-3
    loss = SupConLoss(temperature)
    value, cache = loss.forward(emb, classes)
    assert value == pytest.approx(supcon(emb, classes, temperature), rel=1e-12)
    numeric = np.zeros_like(emb)
    for i in np.ndindex(emb.shape):
        step = np.zeros_like(emb)
        step[i] = 1e-6 * np.linalg.norm(emb[i[0]])
        slope = supcon(emb + step, classes, temperature) - supcon(emb - step, classes, temperature)
        numeric[i] = slope / (2 * step[i])
    np.testing.assert_allclose(loss.backward(cache, 2.0), 2 * numeric, rtol=1e-5, atol=1e-6 * abs(numeric).max())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_supcon_knows_directions_alone(size):
    emb = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    classes, loss = np.arange(6) % 2, SupConLoss(0.1)
    (value, cache), (scaled, scaled_cache) = (loss.forward(e, classes) for e in (emb, emb * np.float32(size)))
    assert scaled == pytest.approx(value, rel=1e-4)
    demb, expected = loss.backward(scaled_cache), loss.backward(cache)
    assert demb.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(demb.astype(np.float64) * size, expected, rtol=1e-2, atol=1e-4)


def test_supcon_of_embeddings_without_direction_without_others_or_without_number():
    loss = SupConLoss()
    zero = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    value, cache = loss.forward(zero, [0, 0, 1, 1])
    assert value == pytest.approx(supcon(zero, [0, 0, 1, 1], 0.05)) and np.isfinite(loss.backward(cache)).all()
    assert (loss.backward(cache)[0] == 0).all()
    for emb, classes in ((np.ones((1, 2)), [0]), (np.ones((2, 2)), [0, 1]), (np.ones((0, 2)), [])):
        value, cache = loss.forward(emb, np.array(classes, int))
        assert value == 0 and not loss.backward(cache).any()
    zero[2, 0] = np.nan
    value, cache = loss.forward(zero, [0, 0, 1, 1])
    assert np.isnan(value) and np.isnan(loss.backward(cache)).any()


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf, None, "0.1", True, 1e-9])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(OptionError, match=r"the temperature must be from 0\.01 to 100, not"):
        SupConLoss(temperature)
