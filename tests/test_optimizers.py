"""Optimizers against the formulas of their papers, step by step; the shapes and ends of the schedules."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese_np import Dense, ReLU, Sequential, cnn
from siamese_np.errors import OptionError, ShapeError
from siamese_np.optimizers import OPTIMIZERS, SCHEDULES, SGD, Adam, constant, cosine, one_cycle

RATES = [0.1, 0.05, 0.2, 0.1, 0.01]


def gradients(dtype) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(50) * 10.0 ** rng.integers(-6, 3, 50)).astype(dtype) for _ in RATES]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_follows_algorithm_1(dtype):
    params = np.linspace(-1, 1, 50).astype(dtype)
    grads = np.zeros_like(params)
    optimizer = Adam(params, grads, beta1=0.8, beta2=0.99, epsilon=1e-5)
    theta, m, v = params.astype(float), np.zeros(50), np.zeros(50)
    for t, (alpha, g) in enumerate(zip(RATES, gradients(dtype), strict=True), start=1):
        grads[:] = g
        optimizer.step(alpha)
        m = 0.8 * m + 0.2 * g.astype(float)
        v = 0.99 * v + 0.01 * g.astype(float) ** 2
        m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.99**t)
        theta = theta - alpha * m_hat / (np.sqrt(v_hat) + 1e-5)
        np.testing.assert_allclose(params, theta, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-14)
    assert params.dtype == dtype and optimizer.steps == len(RATES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sgd_follows_the_heavy_ball(dtype):
    params = np.linspace(-1, 1, 50).astype(dtype)
    grads = np.zeros_like(params)
    optimizer = SGD(params, grads, momentum=0.7)
    theta, velocity = params.astype(float), np.zeros(50)
    for rate, g in zip(RATES, gradients(dtype), strict=True):
        grads[:] = g
        optimizer.step(rate)
        velocity = 0.7 * velocity + g
        theta = theta - rate * velocity
        np.testing.assert_allclose(params, theta, rtol=1e-5 if dtype == np.float32 else 1e-14)
    assert params.dtype == dtype and optimizer.steps == len(RATES)


def test_adams_first_step_is_the_learning_rate_whatever_the_size_of_the_gradient():
    for size in (1e-3, 1.0, 1e6):
        params, grads = np.zeros(2), np.array([size, -size])
        Adam(params, grads, epsilon=1e-12).step(0.25)
        np.testing.assert_allclose(params, [-0.25, 0.25], rtol=1e-8)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_weight_decay_shrinks_what_the_step_has_left_and_spares_what_is_frozen(name):
    results = {}
    for decay in (None, 0.0, 0.5):
        network = Sequential([Dense(3, 4, seed=0), ReLU(), Dense(4, 2, seed=1)], (3,))
        network.layers[0].trainable = False
        network.grads = np.linspace(-1, 1, network.params.size)
        made = OPTIMIZERS[name](network) if decay is None else OPTIMIZERS[name](network, weight_decay=decay)
        made.step(0.25)
        results[decay] = network.params
    np.testing.assert_array_equal(results[0.0], results[None])
    np.testing.assert_array_equal(results[0.5][:16], results[None][:16])
    np.testing.assert_array_equal(results[0.5][16:], results[None][16:] * np.float32(1 - 0.25 * 0.5))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_decay_that_turns_weights_around_is_refused(name):
    params = np.ones(3, np.float32)
    for wrong in (-0.1, math.nan, math.inf, "0.1", None, True):
        with pytest.raises(OptionError, match="the weight decay must be a finite number of at least 0, not"):
            OPTIMIZERS[name](params, params.copy(), weight_decay=wrong)
    made = OPTIMIZERS[name](params, np.zeros(3, np.float32), weight_decay=4)
    with pytest.raises(OptionError, match=r"at most 1, else weights change their sign: 0\.5 times 4 is more"):
        made.step(0.5)
    assert made.steps == 0 and (params == 1).all()
    made.step(0.25)
    assert (params == 0).all()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_zero_gradient_moves_nothing_and_a_nan_stays_visible(name):
    params, grads = np.ones(3, np.float32), np.array([0, np.nan, 0], np.float32)
    OPTIMIZERS[name](params, grads).step(0.1)
    assert np.isnan(params[1]) and (params[[0, 2]] == 1).all()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_gradients_are_only_read(name):
    params, grads = np.ones(5), np.arange(5.0)
    OPTIMIZERS[name](params, grads).step(0.1)
    np.testing.assert_array_equal(grads, np.arange(5.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(np.ones(1), np.ones(1), momentum=1.0),
        lambda: SGD(np.ones(1), np.ones(1), momentum=-0.1),
        lambda: SGD(np.ones(1), np.ones(1), momentum=math.nan),
        lambda: Adam(np.ones(1), np.ones(1), beta1=1.0),
        lambda: Adam(np.ones(1), np.ones(1), beta2=-0.1),
        lambda: Adam(np.ones(1), np.ones(1), epsilon=0),
        lambda: Adam(np.ones(1), np.ones(1), epsilon=math.nan),
        lambda: Adam(np.ones(1), np.ones(1), epsilon=math.inf),
        lambda: Adam(np.ones(1, np.float32), np.ones(1, np.float32), epsilon=1e-50),  # 0 as a float32
        lambda: Adam(np.ones(1), np.ones(1), beta1=None),
        lambda: Adam(np.ones(1), np.ones(1), beta2="0.9"),
        lambda: SGD(np.ones(1), np.ones(1), momentum=False),
    ],
)
def test_a_number_outside_its_range_is_refused(make):
    with pytest.raises(OptionError, match=r"0 <=|at least 0"):
        make()


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1))
def test_schedules_stay_between_0_and_1(name, progress):
    assert 0 <= SCHEDULES[name](progress) <= 1


def test_schedules_end_where_they_say():
    assert [constant(p) for p in (0, 0.3, 1)] == [1, 1, 1]
    assert cosine(0) == 1 and cosine(0.5) == pytest.approx(0.5) and cosine(1) == 0
    assert one_cycle(0) == pytest.approx(0.04) and one_cycle(0.25) == 1 and one_cycle(1) == 0
    assert one_cycle(0, warm_up=0) == 1


def test_one_cycle_rises_then_falls_without_a_jump():
    values = np.array([one_cycle(p) for p in np.linspace(0, 1, 1001)])
    steps = np.diff(values)
    assert (steps[:250] > 0).all() and (steps[250:] < 0).all() and abs(steps).max() < 0.01
    assert (np.diff([cosine(p) for p in np.linspace(0, 1, 101)]) < 0).all()


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize(
    ("params", "grads", "says"),
    [
        (np.ones(40, np.float32), np.ones(4, np.float32), r"one shape and dtype, not \(40,\) of float32 and \(4,\)"),
        (np.ones(4, np.float32), np.ones(4), "one shape and dtype"),
        (np.ones(4, int), np.ones(4, int), r"params as a vector \(P,\) of float32 or float64, not .*\(4,\) of int"),
        (np.ones((2, 2)), np.ones((2, 2)), r"not .*\(2, 2\) of float64"),
        ([1.0], np.ones(1), "not a list of 1"),
        (np.ones(1), None, "needs grads as a vector .* not NoneType"),
        (np.ones(8)[::2], np.ones(4), "params contiguous"),
        (np.ma.ones(4), np.ones(4), "not MaskedArray"),
    ],
)
def test_what_the_kernels_could_not_trust_is_refused(optimizer, params, grads, says):
    with pytest.raises(ShapeError, match=says):
        optimizer(params, grads)


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_network_is_updated_like_its_vectors(optimizer):
    results = []
    for form in ("network", "vectors"):
        network = cnn((8, 8, 1))
        network.grads = np.random.default_rng(0).standard_normal(network.params.size)
        made = optimizer(network) if form == "network" else optimizer(network.params, network.grads)
        for _ in range(3):
            made.step(0.1)
        results.append(network.params)
    np.testing.assert_array_equal(*results)
    with pytest.raises(OptionError, match="a network alone, or a vector params and a vector grads"):
        optimizer(network, network.grads)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_momentum_moves_no_frozen_weight(optimizer):
    network = Sequential([Dense(3, 4, seed=0), ReLU(), Dense(4, 5, seed=1), Dense(5, 2, seed=2)], (3,))
    made, frozen = optimizer(network), network.layers[2]
    network.grads = np.ones(network.params.size)
    made.step(0.1)
    frozen.trainable = False
    before = network.named_params()
    before = {name: array.copy() for name, array in before.items()}
    state = {name: array.copy() for name, array in made.state.items()}
    made.step(0.1)
    for name, array in network.named_params().items():
        assert (array == before[name]).all() == name.startswith("dense_2"), name
    inside = slice(3 * 4 + 4, 3 * 4 + 4 + 4 * 5 + 5)
    for name, array in made.state.items():
        np.testing.assert_array_equal(array[inside], state[name][inside])
    for layer in network.layers:
        layer.trainable = False
    before = network.params.copy()
    made.step(0.1)
    np.testing.assert_array_equal(network.params, before)
    frozen.trainable = True
    made.step(0.1)
    assert (network.params != before)[inside].all() and (network.params == before).sum() == before.size - 25


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_weights_frozen_from_the_start_stay_in_the_form_of_vectors_too(optimizer):
    network = Sequential([Dense(3, 4, seed=0), Dense(4, 2, seed=1)], (3,))
    network.layers[0].trainable = False
    made, before = optimizer(network.params, network.grads), network.params.copy()
    for _ in range(3):
        out, cache = network.forward(np.ones((2, 3), np.float32))
        network.zero_grads()
        network.backward(out, cache)
        made.step(0.1)
    assert (network.params == before)[:16].all() and (network.params != before)[16:].any()


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("rate", [None, math.nan, math.inf, -0.1, 1e39, True, "0.1", 1j, np.ones(1), 10**400])
def test_a_step_of_no_sensible_rate_changes_nothing(optimizer, rate):
    params = np.ones(3, np.float32)
    made = optimizer(params, np.ones(3, np.float32))
    with pytest.raises(OptionError, match=r"from 0 to 3\.4e\+38, the largest float32, not"):
        made.step(rate)
    assert (params == 1).all() and made.steps == 0
    made.step(np.float32(0.5))
    made.step(0)
    assert (params < 1).all()


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_a_replaced_state_is_copied_or_refused(optimizer):
    made = optimizer(np.ones(4), np.ones(4))
    name = next(iter(made.state))
    right = made.state[name]
    for wrong in (np.zeros(2), np.ma.zeros(4), None):
        with pytest.raises(ShapeError, match=f"the array '{name}'"):
            made.state[name] = wrong
    with pytest.raises(ShapeError, match=f"{optimizer.__name__} has the arrays {', '.join(made.state)}, but no 'w'"):
        made.state["w"] = np.zeros(4)
    made.state[name] = np.arange(8, dtype=np.float32)[::2]
    assert right.tolist() == [0, 2, 4, 6] and made.state[name].dtype == np.float64
    made.step(0.1)


@pytest.mark.parametrize("make", [Adam, lambda network: SGD(network, momentum=0.9)])
def test_no_moment_stays_subnormal(make):
    """Where a gradient is 0 for long, its running mean ends at 0, for arithmetic with subnormal numbers is slow."""
    network = Sequential([Dense(3, 2, seed=0)], (3,))
    optimizer = make(network)
    network.grads[:] = 1e-20
    optimizer.step(1e-3)
    network.grads[:] = 0
    for _ in range(1_000):
        optimizer.step(1e-3)
    moments = [kept for name, kept in optimizer.state.items() if name != "v"]
    assert all((kept == 0).all() for kept in moments if kept.size == network.params.size) and moments


@pytest.mark.parametrize("make", [Adam, lambda network: SGD(network, momentum=0.9)])
def test_a_nan_gradient_is_not_taken_for_a_small_one(make):
    network = Sequential([Dense(3, 2, seed=0)], (3,))
    network.grads[:] = np.nan
    make(network).step(1e-3)
    assert np.isnan(network.params).all()
