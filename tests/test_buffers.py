"""Memory that is used again, and never while anything refers to it."""

import gc
import threading

import numpy as np
import pytest

from siamese_np import ContrastiveLoss, SiameseNetwork, cnn
from siamese_np.runtime import buffers

SHAPE = (300, 1000)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(buffers, "_buffers", {})


def place(array):
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_refers_to_is_used_again():
    first = buffers.empty(SHAPE, np.float32)
    where = place(first)
    second = buffers.empty(SHAPE, np.float32)
    assert first.shape == SHAPE and first.dtype == np.float32 and first.flags.c_contiguous
    assert place(second) != where
    del first
    assert place(buffers.empty_like(second)) == where


@pytest.mark.parametrize(
    "view", [lambda a: a[5:], lambda a: a.T, lambda a: a.reshape(-1)[::2], lambda a: a.view(np.int32), memoryview]
)
def test_a_view_keeps_the_memory(view):
    array = buffers.empty(SHAPE, np.float32)
    where, kept = place(array), view(array)
    del array
    assert place(buffers.empty(SHAPE, np.float32)) != where
    del kept
    gc.collect()
    buffers.empty(SHAPE, np.float32)
    assert where in {place(buffer) for buffers in buffers._buffers.values() for buffer in buffers}


def test_a_new_size_lets_unused_memory_go():
    used = buffers.empty(SHAPE, np.float32)
    buffers.empty(SHAPE, np.float64)
    assert sorted(buffers._buffers) == [used.nbytes, 2 * used.nbytes]
    larger = buffers.empty((2, *SHAPE), np.float64)
    assert sorted(buffers._buffers) == [used.nbytes, larger.nbytes]


def test_threads_get_memory_of_their_own():
    found, start = [], threading.Barrier(4)

    def take():
        start.wait()
        found.extend(buffers.empty(SHAPE, np.float32) for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({place(array) for array in found}) == 200


def test_training_steps_need_no_new_memory():
    images = np.random.default_rng(0).random((64, 28, 28, 1), np.float32)
    siamese, loss = SiameseNetwork(cnn()), ContrastiveLoss()

    def step():
        dist, cache = siamese.forward(images[:32], images[32:])
        _, loss_cache = loss.forward(dist, np.arange(32) % 2)
        siamese.backward(loss.backward(loss_cache), cache)

    step()
    before = {place(buffer) for buffers in buffers._buffers.values() for buffer in buffers}
    for _ in range(3):
        step()
    assert before and before == {place(buffer) for buffers in buffers._buffers.values() for buffer in buffers}
