"""Every kernel against the textbook, on random shapes, strides, paddings and dtypes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from siamese_np import backend, kernels, textbook
from siamese_np.backend import as_kernel
from siamese_np.runtime import scheduler

reference = SimpleNamespace(
    **{name: as_kernel(getattr(textbook, name), getattr(kernels, name)) for name in textbook.__all__}
)

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
sizes = st.integers(1, 7)


def compare(name: str, outputs: list[np.ndarray], *arguments) -> None:
    """Call the kernel and the textbook on copies of `outputs` and demand the same results."""
    before = [np.array(a) for a in arguments if isinstance(a, np.ndarray)]
    ours, theirs = [o.copy() for o in outputs], [o.copy() for o in outputs]
    getattr(kernels, name)(*ours, *arguments)
    getattr(reference, name)(*theirs, *arguments)
    for our, their in zip(ours, theirs, strict=True):
        assert not np.isnan(our).any()
        precision = 1e-4 if our.dtype == np.float32 else 1e-12
        scale = max(1.0, abs(their).max(initial=0))
        np.testing.assert_allclose(our, their, rtol=0, atol=precision * scale)
    for argument, old in zip((a for a in arguments if isinstance(a, np.ndarray)), before, strict=True):
        np.testing.assert_array_equal(argument, old, err_msg=f"{name} changed an input")


def normal(seed: int, dtype, *shapes) -> list[np.ndarray]:
    """Random arrays, a third of whose entries are exactly 0: black pixels and ties are the rule."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape) * (rng.random(shape) < 2 / 3)).astype(dtype) for shape in shapes]


@given(seeds, dtypes, st.integers(0, 13), st.integers(1, 13), st.integers(1, 40))
def test_dense(seed, dtype, N, D, E):
    x, w, b, dout = normal(seed, dtype, (N, D), (D, E), E, (N, E))
    compare("dense_forward", [np.full_like(dout, np.nan)], x, w, b)
    for dx in (np.full_like(x, np.nan), x[:0]):  # with the gradient of x and without
        compare("dense_backward", [dx, w.copy(), b.copy()], dout, x, w)


@given(seeds, dtypes, st.floats(0, 1), st.sampled_from([1, 63, 64, 200]), st.sampled_from([8, 300, 784, 2100]))
def test_dense_with_many_zeros(seed, dtype, zeros, N, D):
    """Skipping black pixels, and rows of dout that are all zero, changes nothing."""
    x, w, b, dout = normal(seed, dtype, (N, D), (D, 70), 70, (N, 70))
    rng = np.random.default_rng(seed)
    x[rng.random(x.shape) < zeros] = 0
    dout[rng.random(N) < zeros] = 0
    compare("dense_forward", [np.full_like(dout, np.nan)], x, w, b)
    compare("dense_backward", [np.full_like(x, np.nan), w.copy(), b.copy()], dout, x, w)


convolutions = st.fixed_dictionaries(
    {
        "N": st.sampled_from([0, 1, 2, 3, 9]),
        "image": st.tuples(sizes, sizes),
        "C": st.sampled_from([1, 2, 4, 9]),  # from 8 on, 3x3 windows are Winograd's
        "kernel": st.just((3, 3)) | st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "F": st.sampled_from([1, 3, 8, 17, 64, 70]),
        "stride": st.just((1, 1)) | st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "pad": st.tuples(st.integers(0, 3), st.integers(0, 3)),
    }
)


def conv_arrays(seed, dtype, sparse, N, image, C, kernel, F, stride, pad):
    """x, w, b and the size of the output; None where the kernel does not fit."""
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(image, pad, kernel, stride, strict=True)]
    x, w, b = normal(seed, dtype, (N, *image, C), (*kernel, C, F), F)
    if sparse:
        x[np.random.default_rng(seed).random(x.shape) < 0.7] = 0
    return (x, w, b, size) if min(size) >= 1 else None


ODD_TILES = {"N": 2, "image": (5, 7), "C": 9, "kernel": (3, 3), "F": 64, "stride": (1, 1), "pad": (1, 1)}


@given(seeds, dtypes, st.booleans(), st.booleans(), convolutions)
@example(0, np.float32, False, True, ODD_TILES)  # the last 2x2 tiles reach outside the output
@example(0, np.float64, False, True, {**ODD_TILES, "F": 33})
def test_conv2d(seed, dtype, sparse, need_dx, conv):
    arrays = conv_arrays(seed, dtype, sparse, **conv)
    assume(arrays is not None)
    (x, w, b, size), stride, pad = arrays, conv["stride"], conv["pad"]
    (dout,) = normal(seed + 1, dtype, (len(x), *size, conv["F"]))
    compare("conv2d_forward", [np.full_like(dout, np.nan)], x, w, b, stride, pad)
    dx = np.full_like(x if need_dx else x[:0], np.nan)
    compare("conv2d_backward", [dx, w.copy(), b.copy()], dout, x, w, stride, pad)


@given(seeds, dtypes, st.booleans(), st.booleans(), convolutions)
def test_conv_relu_pool(seed, dtype, sparse, need_dx, conv):
    arrays = conv_arrays(seed, dtype, sparse, **conv)
    assume(arrays is not None)
    (x, w, b, size), stride, pad = arrays, conv["stride"], conv["pad"]
    x, w, b = np.round(2 * x), np.round(2 * w), np.round(b)  # whole numbers: sums are exact, ties are many
    size = [n // 2 for n in size]
    assume(min(size) >= 1)
    (dout,) = normal(seed + 1, dtype, (len(x), *size, conv["F"]))
    out, argmax = np.full_like(dout, np.nan), np.full(dout.shape, 99, np.uint8)
    compare("conv_relu_pool_forward", [out, argmax], x, w, b, stride, pad)
    reference.conv_relu_pool_forward(out, argmax, x, w, b, stride, pad)
    dx = np.full_like(x if need_dx else x[:0], np.nan)
    compare("conv_relu_pool_backward", [dx, w.copy(), b.copy()], dout, argmax, x, w, stride, pad)


pools = st.fixed_dictionaries(
    {
        "N": st.integers(0, 3),
        "image": st.tuples(sizes, sizes),
        "C": st.integers(1, 20),
        "window": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    }
)


def pool_arrays(seed, dtype, N, image, C, window, stride):
    """x and dout; no example where the window does not fit."""
    size = [(n - k) // s + 1 for n, k, s in zip(image, window, stride, strict=True)]
    assume(min(size) >= 1)
    return normal(seed, dtype, (N, *image, C), (N, *size, C))


@given(seeds, dtypes, pools)
def test_maxpool2d(seed, dtype, pool):
    (x, dout), window, stride = pool_arrays(seed, dtype, **pool), pool["window"], pool["stride"]
    x = np.round(x)  # many ties
    out, argmax = np.full_like(dout, np.nan), np.full(dout.shape, 99, np.uint8)
    compare("maxpool2d_forward", [out, argmax], x, window, stride)
    reference.maxpool2d_forward(out, argmax, x, window, stride)
    compare("maxpool2d_backward", [np.full_like(x, np.nan)], dout, argmax, x.shape, window, stride)


@given(seeds, dtypes, pools)
def test_avgpool2d(seed, dtype, pool):
    (x, dout), window, stride = pool_arrays(seed, dtype, **pool), pool["window"], pool["stride"]
    compare("avgpool2d_forward", [np.full_like(dout, np.nan)], x, window, stride)
    compare("avgpool2d_backward", [np.full_like(x, np.nan)], dout, x.shape, window, stride)
    assert textbook.avgpool2d_forward(x, window, stride)[0].dtype == dtype


@given(seeds, dtypes, st.integers(0, 100))
def test_relu(seed, dtype, M):
    x, dout = normal(seed, dtype, M, M)
    compare("relu_forward", [np.full_like(x, np.nan)], x)
    compare("relu_backward", [np.full_like(x, np.nan)], dout, np.maximum(x, 0))


@given(seeds, dtypes, st.integers(0, 9), st.integers(1, 70), st.sampled_from([0, 1e-44, 1e-30, 1e-8, 1, 1e18, 1e30]))
def test_euclidean(seed, dtype, N, E, scale):
    a, b, dist, ddist = normal(seed, dtype, (N, E), (N, E), N, N)
    a, b = (a * dtype(scale)).astype(dtype), (b * dtype(scale)).astype(dtype)
    reference.euclidean_forward(dist, a, b)
    unit = scale or 1  # compare in the data's own unit, so that tiny distances count
    ours = np.empty_like(dist)
    kernels.euclidean_forward(ours, a, b)
    np.testing.assert_allclose(ours / unit, dist / unit, rtol=1e-5 if scale > 1e-40 else 0.5)
    compare("euclidean_forward", [dist], a, b)
    compare("euclidean_backward", [np.full_like(a, np.nan), np.full_like(a, np.nan)], ddist, a, b, dist)


@given(seeds, dtypes, st.integers(0, 30), st.floats(0.1, 3))
def test_contrastive(seed, dtype, N, margin):
    rng = np.random.default_rng(seed)
    dist, dloss = abs(normal(seed, dtype, N, N)[0]), rng.standard_normal(N).astype(dtype)
    dist[rng.random(N) < 0.2] = margin  # exactly at the kink
    label = rng.integers(0, 2, N)
    compare("contrastive_forward", [np.full_like(dist, np.nan)], dist, label, dtype(margin))
    compare("contrastive_backward", [np.full_like(dist, np.nan)], dloss, dist, label, dtype(margin))


@given(seeds, dtypes, st.integers(1, 30), st.integers(1, 20), st.floats(0.1, 3), st.sampled_from([1, 1, 1e-18, 1e18]))
@example(0, np.float32, 300, 3, 1.0, 1)  # more than one block of columns
def test_all_pairs(seed, dtype, N, E, margin, scale):
    rng = np.random.default_rng(seed)
    (emb,) = normal(seed, dtype, (N, E))
    emb *= dtype(scale)
    emb[rng.random(N) < 0.2] = emb[0]  # some at distance 0
    classes = rng.integers(0, 3, N)
    sums, dist = np.full((N, 3), np.nan, dtype), np.full((N, N), np.nan, dtype)
    compare("all_pairs_forward", [sums, dist], emb, classes, dtype(margin))
    reference.all_pairs_forward(sums, dist, emb, classes, dtype(margin))
    weight = rng.random(2).astype(dtype)
    compare("all_pairs_backward", [np.full_like(emb, np.nan)], weight, dist, emb, classes, dtype(margin))
    compare("pairwise_forward", [np.full((N, N), np.nan, dtype)], emb)
    ddist = rng.standard_normal((N, N)).astype(dtype)
    compare("pairwise_backward", [np.full_like(emb, np.nan)], ddist, dist, emb)


@given(seeds, st.integers(0, 140), st.integers(1, 70), st.integers(1, 5), st.integers(1, 20))
def test_nearest_rows(seed, Q, G, E, k):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.integers(-2, 3, (n, E)).astype(float) for n in (Q, G))  # many ties
    k = min(k, G)
    compare("nearest_rows", [np.full((Q, k), np.nan), np.zeros((Q, k), np.int64)], query, gallery, k)


@given(seeds, st.integers(2, 90), st.integers(1, 5))
def test_pairs_and_their_ranks(seed, N, E):
    rng = np.random.default_rng(seed)
    emb, middle = rng.integers(-2, 3, (N, E)).astype(float), np.sort(rng.integers(0, N + 1, N))
    after = np.arange(1, N + 1)
    middle = np.maximum(middle, after)
    squares = np.full(int((middle - after).sum()), np.nan)
    compare("pair_squares", [squares], emb, after, middle)
    kernels.pair_squares(squares, emb, after, middle)
    if squares.size:
        counts = [np.zeros(len(squares) + 1, np.int64), np.zeros(len(squares), np.int64)]
        compare("pair_ranks", counts, np.sort(squares), emb, middle, np.full(N, N))


@given(seeds, dtypes, st.integers(0, 20), st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), st.integers(2, 6))
def test_distort(seed, dtype, N, H, W, C, G):
    """Also far beyond the image, where all is background."""
    rng = np.random.default_rng(seed)
    images, grid = rng.random((N, H, W, C)).astype(dtype), rng.standard_normal((N, G, G, 2)).astype(dtype)
    matrix = (rng.standard_normal((N, 2, 3)) * 10.0 ** rng.integers(-2, 2)).astype(dtype)
    out = np.full_like(images, np.nan)
    compare("distort", [out], images, matrix, grid)
    kernels.distort(out, images, matrix, grid)
    assert out.min(initial=0) >= 0 and out.max(initial=0) <= 1


def test_the_example_of_the_page_of_distort():
    matrix, grid = np.array([[[1, 0, 0], [0, 1, 0.25]]]), np.zeros((1, 2, 2, 2))
    images = np.array([[0.0, 1, 0], [0, 0, 0]]).reshape(1, 2, 3, 1)
    assert textbook.distort(images, matrix, grid)[0, :, :, 0].tolist() == [[0.25, 0.75, 0], [0, 0, 0]]
    grid[0, 0, 0] = 0, 1  # the first knot of the first row looks a pixel further
    np.testing.assert_allclose(textbook.distort(images, matrix, grid)[0, 0, :, 0], [0.75, 0.25, 0], atol=1e-15)


@given(seeds, dtypes, st.integers(0, 50))
def test_optimizers(seed, dtype, P):
    w, m, v, dw = normal(seed, dtype, P, P, P, P)
    rate, *adam, decay = map(dtype, (0.1, 0.9, 0.999, 1e-7, 0.1, 0.001, 0.5))
    chunks = scheduler.chunks_of([P // 3, P - P // 3])
    compare("fill_zero", [w], chunks)
    compare("sgd_step", [w, m], dw, chunks, rate, adam[0], decay)
    compare("adam_step", [w, m, abs(v)], dw, chunks, rate, *adam, decay)


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
def test_nan_stays_visible(module):
    x = np.zeros((1, 4, 4, 1))
    x[0, 1, 2, 0] = np.nan
    out, argmax = np.zeros((1, 2, 2, 1)), np.zeros((1, 2, 2, 1), np.uint8)
    module.maxpool2d_forward(out, argmax, x, (2, 2), (2, 2))
    assert np.isnan(out[0, 0, 1, 0]) and argmax[0, 0, 1, 0] == 2
    module.avgpool2d_forward(out, x, (2, 2), (2, 2))
    assert np.isnan(out[0, 0, 1, 0]) and np.isnan(out).sum() == 1
    flat = np.zeros(16)
    module.relu_forward(flat, x.reshape(-1))
    assert np.isnan(flat[6])
    conv = np.zeros((1, 4, 4, 2))
    module.conv2d_forward(conv, x, np.ones((3, 3, 1, 2)), np.zeros(2), (1, 1), (1, 1))
    assert np.isnan(conv[0, :3, 1:]).all() and not np.isnan(conv[0, :, 0]).any()
    dist, loss = np.zeros(2), np.zeros(2)
    module.euclidean_forward(dist, np.array([[np.nan, 0], [np.inf, 0]]), np.zeros((2, 2)))
    assert np.isnan(dist[0]) and dist[1] == np.inf
    module.contrastive_forward(loss, np.array([np.nan, np.nan]), np.array([0, 1]), 1.0)
    assert np.isnan(loss).all()
    table, sums = np.zeros((2, 2)), np.zeros((2, 3))
    module.all_pairs_forward(sums, table, np.array([[np.nan], [0.0]]), np.array([0, 1]), 1.0)
    assert np.isnan(sums[:, 1]).all() and (sums[:, 2] == 1).all()


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("unit", [5, 129])  # in a row of vectors, and in what is left after them
def test_a_black_pixel_hides_no_bad_weight(module, bad, unit):
    x, w, out = np.zeros((8, 300), np.float32), np.ones((300, 130), np.float32), np.zeros((8, 130), np.float32)
    x[:, 0] = 1
    w[200, unit] = bad  # meets zeros only, and 0 * inf is NaN as well
    with np.errstate(invalid="ignore"):
        module.dense_forward(out, x, w, np.zeros(130, np.float32))
    assert np.isnan(out[:, unit]).all() and (np.delete(out, unit, axis=1) == 1).all()


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
def test_a_nan_gradient_stays_visible(module):
    x, w, dout = np.zeros((8, 300), np.float32), np.ones((300, 20), np.float32), np.zeros((8, 20), np.float32)
    x[:, 7], dout[3, 5] = 1, np.nan
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(20, np.float32)
    module.dense_backward(dx, dw, db, dout, x, w)
    assert np.isnan(dx[3]).all() and np.isnan(dw[7, 5]) and np.isnan(db[5])
    assert not np.isnan(dx[[0, 7]]).any() and not np.isnan(np.delete(dw, 5, axis=1)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("E", [5, 90, 100, 128])
def test_skipping_zeros_changes_no_bit(dtype, E):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((70, 300)) < 0.1, rng.standard_normal((70, 300)), 0).astype(dtype)
    w, b = rng.standard_normal((300, E)).astype(dtype), rng.standard_normal(E).astype(dtype)
    dense = np.concatenate([x, rng.standard_normal((630, 300)).astype(dtype)])  # nothing is skipped here
    alone, among = np.empty((70, E), dtype), np.empty((700, E), dtype)
    kernels.dense_forward(alone, x, w, b)
    kernels.dense_forward(among, dense, w, b)
    np.testing.assert_array_equal(alone, among[:70])
    np.testing.assert_allclose(alone, x @ w + b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
def test_kinks_follow_the_declared_convention(module):
    out, argmax = np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), np.uint8)
    module.maxpool2d_forward(out, argmax, np.full((1, 2, 2, 1), 7.0), (2, 2), (2, 2))
    assert argmax[0, 0, 0, 0] == 0  # a tie goes to the first
    dx = np.ones(2)
    module.relu_backward(dx, np.ones(2), np.array([0.0, -0.0]))
    assert (dx == 0).all()  # ReLU's slope at 0 is 0
    demb = np.ones((2, 1, 3))
    module.euclidean_backward(demb[0], demb[1], np.ones(1), np.ones((1, 3)), np.ones((1, 3)), np.zeros(1))
    assert (demb == 0).all()  # the distance's gradient at 0 is 0
    ddist = np.ones(1)
    module.contrastive_backward(ddist, np.ones(1), np.array([1.5]), np.array([1]), 1.5)
    assert ddist[0] == 0  # the hinge at dist = margin is inactive


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distance_is_zero_only_where_the_embeddings_are_equal(module, dtype):
    for size in (np.finfo(dtype).smallest_subnormal, dtype(1e-30), dtype(1e-8), np.finfo(dtype).max / 4):
        a, b = np.array([[size, 0]], dtype), np.array([[0, 0]], dtype)
        dist, demb_a, demb_b = np.zeros(1, dtype), np.zeros((1, 2), dtype), np.zeros((1, 2), dtype)
        module.euclidean_forward(dist, a, b)
        assert dist[0] == size
        module.euclidean_backward(demb_a, demb_b, np.ones(1, dtype), a, b, dist)
        np.testing.assert_array_equal(demb_a, [[1, 0]])


def test_every_kernel_is_compared_with_a_page_of_the_textbook():
    assert set(kernels.__all__) == set(textbook.__all__)
    assert set(re.findall(r'compare\("(\w+)"', Path(__file__).read_text())) == set(kernels.__all__)
    assert all(callable(getattr(module, name)) for module in (kernels, textbook) for name in module.__all__)


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (kernels, "textbook defines relu_forward, but no file of siamese_np/kernels has such a @kernel"),
        (textbook, "kernels defines relu_forward, but no page of siamese_np/textbook has such a function"),
    ],
)
def test_a_page_without_a_kernel_and_a_kernel_without_a_page_are_refused(lacking, sentence, monkeypatch):
    monkeypatch.setattr(lacking, "__all__", [name for name in lacking.__all__ if name != "relu_forward"])
    with pytest.raises(ImportError, match=sentence):
        backend._check_names()


@pytest.mark.parametrize("module", [kernels, reference], ids=["compiled", "textbook"])
@pytest.mark.parametrize(("C", "K"), [(1, 3), (3, 3), (8, 3), (9, 5)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_black_pixels_hide_no_bad_filter(module, C, K, bad):
    x, w = np.zeros((1, 8, 8, C), np.float32), np.ones((K, K, C, 5), np.float32)
    w[K // 2, K // 2, 0, 2] = bad
    out, pooled = np.zeros((1, 8, 8, 5), np.float32), np.zeros((1, 4, 4, 5), np.float32)
    b, pad = np.zeros(5, np.float32), (K // 2, K // 2)
    with np.errstate(invalid="ignore"):
        module.conv2d_forward(out, x, w, b, (1, 1), pad)
        module.conv_relu_pool_forward(pooled, np.zeros(pooled.shape, np.uint8), x, w, b, (1, 1), pad)
    for result in (out, pooled):
        assert np.isnan(result[..., 2]).all() and (np.delete(result, 2, axis=3) == 0).all()


@pytest.mark.parametrize("C", [1, 16])
def test_the_first_nan_of_a_window_wins(C):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((4, 8, 8, C)) < 0.5, np.nan, rng.standard_normal((4, 8, 8, C))).astype(np.float32)
    w, shape = np.eye(C, dtype=np.float32)[None, None], (4, 4, 4, C)
    winners: dict[str, list[np.ndarray]] = {"pool": [], "fused": []}
    for module in (kernels, reference):
        argmax = np.zeros(shape, np.uint8)
        module.maxpool2d_forward(np.zeros(shape, np.float32), argmax, x, (2, 2), (2, 2))
        winners["pool"].append(argmax)
        fused = np.zeros(shape, np.uint8)
        with np.errstate(invalid="ignore"):
            module.conv_relu_pool_forward(np.zeros(shape, np.float32), fused, x, w, w[0, 0, 0] * 0, (1, 1), (0, 0))
        winners["fused"].append(fused)
    for ours, theirs in winners.values():
        np.testing.assert_array_equal(ours, theirs)


PATHS = {  # of conv2d_backward: shape of x, of w, stride, pad, share of zeros in dout, and whether dx is wanted
    "lists": ((2, 9, 8, 9), (3, 3, 9, 20), (1, 1), (1, 1), 0.9, True),
    "winograd": ((5, 9, 8, 9), (3, 3, 9, 20), (1, 1), (1, 1), 0.1, True),
    "winograd, wide margins": ((2, 5, 6, 33), (3, 3, 33, 8), (1, 1), (2, 0), 0.1, True),
    "winograd, many tiles and weights": ((4, 14, 14, 96), (3, 3, 96, 192), (1, 1), (1, 1), 0.0, True),
    "too few filters for winograd": ((2, 9, 8, 9), (3, 3, 9, 7), (1, 1), (1, 1), 0.1, True),
    "too wide margins for winograd": ((2, 4, 4, 9), (3, 3, 9, 20), (1, 1), (3, 3), 0.1, True),
    "products": ((9, 13, 11, 5), (4, 3, 5, 70), (2, 3), (1, 2), 0.1, True),
    "products, many weights": ((1, 15, 15, 24), (5, 5, 24, 96), (1, 1), (2, 2), 0.1, True),
    "plain product": ((2, 11, 10, 160), (1, 1, 160, 64), (1, 1), (0, 0), 0.1, True),
    "only dw": ((3, 12, 12, 3), (3, 3, 3, 20), (1, 1), (1, 1), 0.1, False),
    "only dw, of few": ((3, 12, 12, 3), (3, 3, 3, 20), (1, 1), (1, 1), 0.9, False),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_way_of_a_convolutions_gradients(path, dtype):
    """The same result, and the same bits with any number of threads; a NaN in dout is seen, and only in its image."""
    image, window, stride, pad, zeros, need_dx = PATHS[path]
    rng, size = np.random.default_rng(0), [(image[k + 1] + 2 * pad[k] - window[k]) // stride[k] + 1 for k in (0, 1)]
    x, w, dout = (rng.standard_normal(shape).astype(dtype) for shape in (image, window, (image[0], *size, window[3])))
    dout[rng.random(dout.shape) < zeros] = 0
    dx = np.full_like(x if need_dx else x[:0], np.nan)
    arguments = dout, x, w, stride, pad
    compare("conv2d_backward", [dx, w.copy(), w[0, 0, 0].copy()], *arguments)
    before, results = scheduler.get_threads(), []
    try:
        for threads in (1, 3):
            scheduler.set_threads(threads)
            results.append([np.full_like(dx, np.nan), np.zeros_like(w), np.zeros_like(w[0, 0, 0])])
            kernels.conv2d_backward(*results[-1], *arguments)
    finally:
        scheduler.set_threads(before)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    dout[0, 1, 1, 3] = np.nan
    bad = [np.zeros_like(dx), np.zeros_like(w), np.zeros_like(w[0, 0, 0])]
    kernels.conv2d_backward(*bad, *arguments)
    seen = textbook.conv2d_backward(dout, (x, w, stride, pad))
    for ours, theirs in zip(bad[0 if need_dx else 1 :], seen[0 if need_dx else 1 :], strict=True):
        assert np.isnan(ours[np.isnan(theirs)]).all()
    assert not np.isnan(bad[0][1:]).any()
    assert not np.isnan(np.delete(bad[1], 3, axis=3)).any() and np.isnan(bad[2]).sum() == 1
