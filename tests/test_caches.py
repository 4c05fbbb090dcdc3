"""Caches of one operation given to another: refused with a sentence, or as good as its own; never a crash.

Kernels trust their arguments, so a cache that slips through would read and write beyond the ends of arrays.
"""

import numpy as np
import pytest

from siamese_np import (
    AvgPool2D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
    SiameseNetwork,
    cnn,
    mlp,
)
from siamese_np.distances import EuclideanDistance
from siamese_np.errors import ShapeError
from siamese_np.fusion import ConvReLUPool
from siamese_np.losses import AllPairsContrastiveLoss, ContrastiveLoss, SupConLoss

pytestmark = pytest.mark.usefixtures("backend")

DTYPES = (np.float32, np.float64)


class Operation:
    """Something with forward and backward, inputs for it, and how its inputs follow from a cache of its own."""

    def __init__(self, thing, inputs, inputs_of):
        self.thing, self.inputs, self.inputs_of = thing, inputs, inputs_of
        self.out, self.cache = thing.forward(*inputs)

    def backward(self, dout, cache):
        if isinstance(self.thing, (ContrastiveLoss, AllPairsContrastiveLoss, SupConLoss)):
            return self.thing.backward(cache)
        return self.thing.backward(dout, cache)

    def makes(self, dout, cache):
        """Whether forward gives just such a cache, and an output like dout."""
        if self.inputs_of is None:
            return form(cache) == form(self.cache)
        out, made = self.thing.forward(*self.inputs_of(cache))
        return form(made) == form(cache) and np.shape(out) in ((), np.shape(dout))


def form(cache):
    """Kinds, shapes and dtypes of all that is in a cache."""
    if isinstance(cache, np.ndarray):
        return type(cache), cache.shape, cache.dtype.str, cache.flags.c_contiguous
    return (type(cache), *map(form, cache)) if isinstance(cache, (tuple, list)) else (type(cache), repr(cache))


def operations(dtype):
    rng = np.random.default_rng(0)
    images, odd, coloured = (rng.random(shape).astype(dtype) for shape in ((4, 8, 8, 1), (3, 9, 7, 1), (4, 8, 8, 8)))
    vectors, narrow = rng.random((4, 8)).astype(dtype), rng.random((4, 4)).astype(dtype)
    cases = []

    def add(inputs_of, inputs, *things):
        cases.extend(Operation(thing, inputs, inputs_of) for thing in things)

    def conv(C=1, **options):
        return Conv2D(C, 8, seed=0, dtype=dtype, **options)

    for x in (images, odd):
        add(lambda cache: (cache,), (x,), conv(), conv(pad=1), conv(stride=2), conv(kernel_size=(2, 3)))
        fused = [ConvReLUPool(conv(**options), MaxPool2D(2)) for options in ({}, {"pad": 1}, {"stride": 2})]
        add(lambda cache: (cache[1],), (x,), *fused)
    add(lambda cache: (cache,), (coloured,), conv(C=8), conv(C=8, pad=1))
    add(lambda cache: (cache[1],), (coloured,), ConvReLUPool(conv(C=8, pad=1), MaxPool2D(2)))
    for x in (images, odd, coloured):
        pools = [MaxPool2D(2), MaxPool2D(2, 1), MaxPool2D((2, 3)), MaxPool2D(1), MaxPool2D(3, 2)]
        add(lambda cache: (np.zeros(cache[1], dtype),), (x,), *pools)
        means = [AvgPool2D(2), AvgPool2D((2, 3)), AvgPool2D(3, 2), GlobalAvgPool2D()]
        add(lambda cache: (np.zeros(cache, dtype),), (x,), Flatten(), *means)
    wide = rng.random((2, 17, 17, 2)).astype(dtype)  # numbers of 16x16 entries take more than a byte
    add(lambda cache: (np.zeros(cache[1], dtype),), (wide,), MaxPool2D(16, 1))
    for x in (images, vectors, narrow):
        add(lambda cache: (cache,), (x,), ReLU())
    add(lambda cache: (cache,), (vectors,), Dense(8, 4, seed=0, dtype=dtype), Dense(8, 8, seed=0, dtype=dtype))
    add(lambda cache: (cache,), (narrow,), Dense(4, 8, seed=0, dtype=dtype))
    for emb in (vectors, narrow, rng.random((4, 1)).astype(dtype)):
        add(lambda cache: cache[:2], (emb, emb[::-1]), EuclideanDistance())
        add(lambda cache: cache[1:3], (emb, np.array([0, 0, 1, 1])), AllPairsContrastiveLoss())
        add(lambda cache: (cache[0], np.array([0, 0, 1, 1])), (emb, np.array([0, 0, 1, 1])), SupConLoss())
    for dist in (vectors[0], narrow[0]):
        add(lambda cache: cache, (dist, np.arange(len(dist)) % 2), ContrastiveLoss())

    def block(**options):
        return [conv(**options), ReLU(), MaxPool2D(2)]

    networks = [
        Sequential(block(pad=1), (8, 8, 1)),
        Sequential(block(stride=2), (8, 8, 1)),
        Sequential([conv(pad=1), ReLU()], (8, 8, 1)),
        Sequential([Flatten(), Dense(64, 8, seed=0, dtype=dtype)], (8, 8, 1)),
        cnn((8, 8, 1), 8, dtype=dtype),
        mlp((8, 8, 1), 8, dtype=dtype),
    ]
    networks += [networks[0].upto(2), networks[4].upto(3), networks[4].upto(6), networks[5].upto(2)]
    for layer in networks[1].layers + networks[5].layers[:2]:
        layer.trainable = False
    for network in networks:
        cases.append(Operation(network, (images,), None))
        if len(network.output_shape) == 1:
            cases.append(Operation(SiameseNetwork(network), (images[:2], images[2:]), None))
    return cases


def refusal(case, dout, cache):
    """The sentence with which `case` refuses `cache`; None where it takes it. Any other exception goes through."""
    try:
        case.backward(dout, cache)
    except ShapeError as error:
        return str(error)
    return None


def test_every_cache_given_to_every_operation_is_refused_or_as_good_as_its_own():
    cases = [case for dtype in DTYPES for case in operations(dtype)]
    ran = refused = 0
    for receiver in cases:
        for giver in cases:
            for dout in (receiver.out, giver.out):
                same = form((dout, giver.cache)) == form((receiver.out, receiver.cache))
                sentence = refusal(receiver, dout, giver.cache)
                if sentence is None:
                    ran += 1
                    fits = same or receiver.makes(dout, giver.cache)
                    assert fits, f"{receiver.thing} took the cache of {giver.thing}"
                else:
                    refused += 1
                    assert "\n" not in sentence
                    # the argmax of a larger window, or the cache of a network of the same layers
                    assert not same or "argmax below" in sentence or "that of another network" in sentence
    assert refused > 10 * ran > 1000


def spoiled(part):
    """What a cache may not hold in place of `part`."""
    yield from (None, 5, "x", (), [], {}, np.float32(1), np.array(None), [part], (part,))
    if isinstance(part, np.ndarray):
        yield from (part.tolist(), np.ma.masked_array(part))
        yield from (part.astype(kind) for kind in (object, complex, np.float16, np.int8, part.dtype.newbyteorder()))
        yield from (part[:-1], np.concatenate([part, part]), part[..., np.newaxis], part[np.newaxis], part.reshape(-1))
        yield np.repeat(part, 2, axis=-1)[..., ::2]  # not contiguous
    elif isinstance(part, (tuple, list)):
        yield from (list(part), tuple(part), type(part)([None] * len(part)))
        if isinstance(part[0], int):
            yield from ((-1, *part[1:]), (part[0] + 1, *part[1:]), (float(part[0]), *part[1:]), part[:2], (*part, 2))
        else:
            yield from (part[:-1], part + part[-1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cache_with_any_part_replaced_is_refused(dtype):
    for case in operations(dtype):
        parts = case.cache if isinstance(case.cache, (tuple, list)) else ()
        wrong = list(spoiled(case.cache))
        for i, part in enumerate(parts):
            wrong += [type(parts)((*parts[:i], other, *parts[i + 1 :])) for other in spoiled(part)]
        for cache in wrong:
            if form(cache) != form(case.cache):
                taken = refusal(case, case.out, cache) is None
                assert not taken or case.makes(case.out, cache), f"{case.thing} took {cache!r:.300}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("pool", "side", "limit"), [(MaxPool2D(2), 8, 4), (MaxPool2D((15, 17), 1), 20, 255)])
def test_an_argmax_beyond_its_window_is_refused(pool, side, limit, dtype):
    out, (argmax, shape) = pool.forward(np.ones((2, side, side, 3), dtype))
    argmax[0, 1, 1, 1] = limit - 1
    pool.backward(out, (argmax, shape))
    argmax[0, 1, 1, 1] = limit
    with pytest.raises(ShapeError, match=f"argmax below {limit}"):
        pool.backward(out, (argmax, shape))
    if argmax.dtype == np.int32:
        argmax[0, 1, 1, 1] = -1
        with pytest.raises(ShapeError, match="argmax"):
            pool.backward(out, (argmax, shape))


def test_a_fused_argmax_may_say_none_and_no_more():
    block = ConvReLUPool(Conv2D(1, 2), MaxPool2D(2))
    out, (argmax, x) = block.forward(np.ones((2, 8, 8, 1), np.float32))
    argmax[:] = 4
    assert not block.backward(np.ones_like(out), (argmax, x)).any()
    argmax[1, 0, 0, 0] = 5
    with pytest.raises(ShapeError, match="argmax below 5"):
        block.backward(out, (argmax, x))
