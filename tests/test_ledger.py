"""What a network costs, layer by layer, against counts by hand."""

import numpy as np
import pytest

from siamese_np import Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU, Sequential, cnn
from siamese_np.errors import ShapeError


@pytest.fixture
def network():
    layers = [Conv2D(1, 2, 3, pad="same", seed=0), ReLU(), MaxPool2D(2), Flatten(), Dense(8, 3, seed=1)]
    return Sequential(layers, (4, 4, 1))


def test_counts_are_those_by_hand(network):
    x = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    ledger = network.summary(x)
    rows = {row.name: row for row in ledger.rows}
    assert [*rows] == ["input", "conv2d_1", "relu_1", "maxpool2d_1", "flatten_1", "dense_1"]
    assert [row.shape for row in ledger.rows] == [(4, 4, 1), (4, 4, 2), (4, 4, 2), (2, 2, 2), (8,), (3,)]
    assert (rows["conv2d_1"].params, rows["dense_1"].params) == (3 * 3 * 2 + 2, 8 * 3 + 3)
    assert rows["conv2d_1"].flops == 5 * 2 * 9 * 16 * 2
    assert rows["conv2d_1"].backward_flops == 5 * (2 * 9 * 16 * 2 + 32)  # no dx of the images
    assert rows["dense_1"].flops == 5 * 2 * 24
    assert rows["dense_1"].backward_flops == 5 * (4 * 24 + 3)
    assert rows["maxpool2d_1"].flops == 5 * 8 * 3
    assert rows["relu_1"].bytes == rows["relu_1"].backward_bytes == 5 * 32 * 4
    assert rows["dense_1"].backward_bytes == 5 * 8 * 4 + 27 * 4
    assert rows["flatten_1"].bytes == rows["flatten_1"].backward_bytes == 0
    assert ledger.total("params") == network.params.size


def test_zeros_are_those_of_the_data(network):
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = 1
    rows = {row.name: row for row in network.summary(x).rows}
    out, _ = network.upto(2).forward(x)
    assert rows["input"].zeros == 15 / 16
    assert rows["relu_1"].zeros == np.mean(out == 0)


def test_nothing_of_the_network_changes(network):
    before = network.params.copy(), network.grads.copy()
    network.summary(np.ones((2, 4, 4, 1), np.float32))
    assert (network.params == before[0]).all() and (network.grads == before[1]).all()


def test_a_user_s_layer_has_unknown_flops_and_counts_nothing_in_the_sum():
    class Mine(Layer):
        def forward(self, x):
            return 2 * x, None

    ledger = Sequential([Mine(), Dense(4, 1, seed=0)], (4,)).summary(np.ones((1, 4), np.float32))
    assert ledger.rows[1].flops is None and "?" in repr(ledger)
    assert ledger.total("flops") == 8


def test_frozen_layers_have_no_parameters_to_train(network):
    network.layers[0].trainable = False
    assert network.summary(np.ones((1, 4, 4, 1), np.float32)).total("params") == 27


def test_the_table_has_all_layers_and_totals():
    network = cnn()
    lines = repr(network.summary(np.zeros((3, 28, 28, 1), np.float32))).splitlines()
    assert len(lines) == 1 + 1 + len(network.layers) + 1
    assert lines[-1].startswith("3 in all") and f"{network.params.size:,}" in lines[-1]
    assert len({len(line) for line in lines[:-1]}) == 1


@pytest.mark.parametrize("x", [np.ones((4, 4, 1)), np.ones((2, 3, 4, 1)), np.ones((0, 4, 4, 1)), "no array"])
def test_what_is_no_batch_for_the_network_is_refused(network, x):
    with pytest.raises(ShapeError):
        network.summary(x if isinstance(x, str) else x.astype(np.float32))
