"""Other people's layers and functions as cases: how they are called and where their gradients are is found by trying.

An object is copied before each forward pass, with the values of the point in it, and before each backward pass. So
state on self, gradients that add up, running averages and random generators of the layer's own disturb nothing, and
the user's object stays as it is. Parameters are floats or arrays with a gradient beside them (``W`` and ``dW``,
``params["W"]`` and ``grads["W"]``, ``weights[0]`` and ``dweights[0]``), by name; gradients without a name are
assigned by shape or in order; and where backward updates a parameter, the gradient is read off the update.
"""

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck.calls import (
    LABELS,
    RATE,
    RECIPE,
    Key,
    Way,
    arguments,
    in_order,
    is_checked,
    joined,
    not_checked,
    pick,
    ways,
)
from siamese_np.gradcheck.case import INCONCLUSIVE, Array, Arrays, Broken, Case, Check, as_array, describe, kind
from siamese_np.gradcheck.objects import Copies, Path, get, numbers, put, text

FORWARD = (
    *("forward", "forward_pass", "fprop", "forward_prop", "forward_propagate", "forward_propagation", "feed_forward"),
    *("feedforward", "propagate", "fwd", "__call__", "loss", "call"),
)
BACKWARD = (
    *("backward", "backward_pass", "bprop", "backprop", "back_prop", "backward_prop", "backward_propagate"),
    *("backward_propagation", "back_propagate", "backpropagate", "backpropagation", "bwd"),
)
DERIVATIVE = ("gradient", "grad", "derivative", "prime", "deriv")
OUTPUTS = ("output", "outputs", "out", "y", "a", "activation", "value")
OF_INPUT = ("x", "input", "inputs", "in", "values")  # as in dx, grad_input, dinputs

BOXES = ("param", "params", "parameter", "parameters", "data", "value", "val", "array")  # what says nothing of its own
GRADIENTS = (
    "grad",
    "grads",
    "gradient",
    "gradients",
    "dparams",
    "d_params",
    "param_grads",
    "param_gradients",
    "derivatives",
)
BEFORE = (
    *(
        "d",
        "d_",
        "dl",
        "dl_",
        "dl_d",
        "dld",
        "dj_d",
        "djd",
        "de_d",
        "ded",
        "dloss_d",
        "dc_d",
        "grad_",
        "grad",
        "grads_",
    ),
    *("gradient_", "gradients_", "grad_of_", "delta_", "nabla_", "g_"),
)
AFTER = ("_grad", "_grads", "_gradient", "_gradients", "grad", "gradient", "_delta", "_d")
SAME = {"weight": "w", "weights": "w", "kernel": "w", "kernels": "w", "bias": "b", "biases": "b"}

Source = tuple[Any, ...]  # "returned", key; "attribute", path; "update", path, rate; "part", source, start, stop


def method_of(thing: Any, names: Iterable[str]) -> str:
    """The first of `names` that is a method of `thing`, or ""."""
    return next((name for name in names if callable(getattr(thing, name, None))), "")


def both_ways(thing: Any) -> tuple[str, str]:
    """The names of the methods of `thing` that go forward and backward; "" where there is none."""
    backward = method_of(thing, BACKWARD)
    return method_of(thing, FORWARD), backward or method_of(thing, DERIVATIVE)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators, which many layers draw their numbers from, seeded for a while."""
    state, other = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(other)


def reseeded(forward: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """`forward` with the global generators seeded before each call."""

    def run(*arguments: Any) -> Any:
        with seeded(seed):
            return forward(*arguments)

    return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the user's code prints goes to standard error, and what it draws at random is always the same."""
    with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"), seeded(0):
        yield


def found_case(name: str, thing: Any, forward: Any, backward: Any, values: Sequence[Any]) -> Case:
    """A case of methods, by name, of `thing`, or of functions, where it is None; `values` are the arguments.

    Raises
    ------
    OptionError, ShapeError
        They cannot be called with these arguments, or nothing can be found to check; with what to write instead.
    """
    given = arguments(getattr(thing, forward) if thing is not None else forward, values)
    if thing is None and not any(is_checked(value) for value in given.values()):
        given = {key: np.array(v, np.float64) if np.size(v) and _whole(v) else v for key, v in given.items()}
    with quiet():
        return _Finder(name, thing, forward, backward, given).case()


def _whole(value: Any) -> bool:
    return isinstance(value, (int, list, np.ndarray, np.integer)) and np.asarray(value).dtype.kind in "iu"


class _Finder:
    """How the passes of an object, or of two functions, are called, and where each gradient is."""

    def __init__(self, name: str, thing: Any, forward: Any, backward: Any, given: dict[str, Any]) -> None:
        self.name, self.forward, self.backward, self.given = name, forward, backward, given
        self.owner = Copies(thing).make(as_float64=True)  # of which all copies are made, and which never runs
        self.copies = Copies(self.owner)
        self.notes = not_checked(given)
        self.places: dict[str, Path] = {}  # of the parameters on the object
        self.sources: dict[str, Source] = {}  # of the gradients
        self.values: Arrays = {key: value for key, value in given.items() if is_checked(value)}
        self.find()

    # --- passes ---------------------------------------------------------------------------------------------

    def method(self, which: Any, thing: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(thing, which) if isinstance(which, str) else which
        return method

    def run(self, values: Mapping[str, Array], moved: Mapping[Path, Array] | None = None) -> tuple[Any, ...]:
        """A forward pass of a fresh copy: the copy, its arguments and what it returned."""
        thing = self.copies.make()
        for path, value in (moved or {}).items():
            put(thing, path, value)
        for key, path in self.places.items():
            put(thing, path, values[key])
        given = {key: values[key] if key in self.values else copy.deepcopy(v) for key, v in self.given.items()}
        result = self.method(self.forward, thing)(*given.values())
        if result is None and thing is not None:
            result = next((getattr(thing, key) for key in OUTPUTS if getattr(thing, key, None) is not None), None)
        return thing, given, result

    def back(self, way: Way, dout: Array, state: tuple[Any, ...]) -> tuple[Any, Any]:
        """What backward returned after the forward pass `state`, and the object after it."""
        thing, given, result = Copies(state).make() if state[0] is not None else state
        return way.call(self.method(self.backward, thing), dout, result, given), thing

    # --- how it is called -----------------------------------------------------------------------------------

    def find(self) -> None:
        """Find the way that backward is called and the sources of all gradients; or OptionError."""
        called = f"{self.name}: {self.forward}" if isinstance(self.forward, str) else self.name
        try:
            state = self.run(self.values)
        except (Exception, SystemExit) as error:
            shapes = ", ".join(f"{key} {np.shape(v)}" if np.ndim(v) else key for key, v in self.given.items())
            raise OptionError(f"{called} cannot be called with {shapes}: it raised {describe(error)}") from error
        failed: list[Exception] = []
        spare = None
        backward = self.method(self.backward, state[0])
        for way in ways(state[2], backward, list(self.given)):
            try:
                out = self.output(way.outs(state[2]))
                dout = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)
                returned, after = self.back(way, dout, state)
            except (ShapeError, OptionError) as error:
                failed.append(error)
                continue
            except (Exception, SystemExit) as error:
                sentence = f"{self.name}: backward{way} raised {describe(error)}, and no other way to call it was found"
                failed.append(OptionError(sentence + RECIPE))
                continue
            sources = self.of_arguments(returned, after)
            found = way, sources, state, out, dout, returned, after
            usual = way.sources == ("dout", "cache")  # then a gradient of another shape is a fault, not a sign
            fits = all(_fits(self.read(s, returned, after), self.values[k]) for k, s in sources.items())
            if sources and (usual or fits):
                break
            spare = spare or found
        else:
            if spare is None:
                what = f"forward returned {kind(state[2])}, which does not fit what its backward takes"
                raise failed[0] if failed else OptionError(f"{self.name}: {what}{RECIPE}")
            found = spare
        self.way, sources, state, self.out, dout, returned, after = found
        if self.owner is not None:
            self.find_parameters(state, returned, after, dout, set(sources.values()))
        self.sources = {**sources, **self.sources}
        if not self.sources:
            raise OptionError(f"{self.name}: backward{self.way} gave no gradient, neither returned nor kept{RECIPE}")
        self.describe(dout, state, returned, after)

    def output(self, outs: Any) -> Array:
        out = as_array("forward must return one NumPy array as its output, but it", joined(outs))
        if not np.issubdtype(out.dtype, np.floating):
            raise OptionError(f"forward must return floating-point numbers, but its output is {kind(outs)}")
        return out

    def of_arguments(self, returned: Any, after: Any) -> dict[str, Source]:
        """Where the gradients of the arguments are: returned, or kept by the object."""
        placed, rest = in_order(returned, self.given)
        if self.owner is None and not isinstance(returned, Mapping) and returned is not None:
            count = len(returned) if isinstance(returned, (tuple, list)) else 1
            if rest or (count not in (len(self.given), len(self.values)) and len(self.values) > 1):
                raise OptionError(
                    f"backward must return {len(self.values)} gradients ({', '.join(self.values)}), in this order and "
                    f"None where there is none, but it returned {count}"
                )
        sources: dict[str, Source] = {key: ("returned", place) for key, place in placed.items()}
        kept = [(("attribute", path), path) for path in numbers(after)] if self.owner is not None else []
        leaves = [(("returned", key), _path(key)) for key, _ in rest] + kept
        for key in self.values:
            wanted = (key, *OF_INPUT) if len(self.values) == 1 else (key,)
            for source, path in leaves:
                if key not in sources and len(path) == 1 and _gradient_of(path, source[0] == "returned", wanted):
                    sources[key] = source
        return sources

    def read(self, source: Source, returned: Any, thing: Any, values: Mapping[str, Array] | None = None) -> Any:
        """The gradient at `source`."""
        if source[0] == "returned":
            return pick(returned, source[1])
        if source[0] == "attribute":
            return get(thing, source[1])
        if source[0] == "part":
            return np.ravel(self.read(source[1], returned, thing))[source[2] : source[3]].reshape(source[4])
        _, key, path, rate = source
        return ((values or self.values)[key] - get(thing, path)) / rate

    def read_all(self, returned: Any, thing: Any) -> Arrays:
        found = {}
        for key, source in self.sources.items():
            sentence = f"the gradient of {key} must be a NumPy array, but it"
            found[key] = as_array(sentence, self.read(source, returned, thing))
        return found

    # --- parameters -----------------------------------------------------------------------------------------

    def find_parameters(self, state: Any, returned: Any, after: Any, dout: Array, taken: set[Source]) -> None:
        """Find the parameters on the object and the sources of their gradients."""
        before, later = numbers(state[0]), numbers(after)
        self.adopt_lazy(before)
        candidates = {p: v for p, v in before.items() if p and all(step[0] != "()" for step in p) and self.has(p)}
        _, rest = in_order(returned, self.given)
        leaves: list[tuple[Source, Path]] = [(("returned", key), _path(key)) for key, _ in rest]
        # those first that backward wrote
        kept = sorted(later, key=lambda p: p in before and bool(np.array_equal(later[p], before[p])))
        leaves += [(("attribute", path), path) for path in kept]
        pairs = _match([leaf for leaf in leaves if leaf[0] not in taken], list(candidates))
        arrays = {p: v for p, v in candidates.items() if isinstance(v, np.ndarray) and not _is_gradient(p, candidates)}
        stays = self.survivors([*pairs, *(p for p in arrays if p not in pairs)], candidates)
        pairs = {p: source for p, source in pairs.items() if p in stays}
        known = [candidates[p] for p in pairs]
        free = [p for p in arrays if p in stays and not any(np.may_share_memory(arrays[p], other) for other in known)]
        free = [p for p in free if self.moves(p, candidates[p])]
        used = {*pairs.values(), *taken}
        loose = [s for s, p in leaves if s not in used and (s[0] == "returned" or _is_box(p))]
        pairs.update(self.by_shape(loose, free, returned, after))
        pairs.update(self.by_update([p for p in free if p not in pairs], state, dout))
        for path in candidates:
            if path in pairs:
                key = self.named(path)
                self.places[key] = path
                self.values[key] = np.array(candidates[path], np.float64)
                source = pairs[path]
                self.sources[key] = ("update", key, *source[1:]) if source[0] == "update" else source
                if source[0] == "attribute" and get(self.owner, source[1]) is not None:
                    put(self.owner, source[1], np.zeros_like(get(self.owner, source[1])))
        self.copies = Copies(self.owner)

    def has(self, path: Path) -> bool:
        return get(self.owner, path) is not None

    def adopt_lazy(self, before: Mapping[Path, Any]) -> None:
        """Where forward makes parameters when it is first called, go on from the object that has them."""
        new = [p for p, v in before.items() if p and isinstance(v, np.ndarray) and not self.has(p)]
        if new:
            cold, self.owner = self.owner, self.warm()
            self.copies = Copies(self.owner)
            if not any(p in self.survivors([p], before) and self.moves(p, before[p]) for p in new):
                self.owner, self.copies = cold, Copies(cold)

    def warm(self) -> Any:
        return Copies(self.run(self.values)[0]).make()

    def survivors(self, paths: Sequence[Path], values: Mapping[Path, Any]) -> set[Path]:
        """Which of the numbers at `paths` are still there after a forward pass that began with others."""
        bumped = {p: np.asarray(values[p]) * (1 + 2.0**-10) + 2.0**-10 for p in paths}
        try:
            thing = self.run(self.values, bumped)[0]
        except (Exception, SystemExit):
            return set(paths)
        return {p for p in paths if np.array_equal(get(thing, p), bumped[p])}

    def moves(self, path: Path, value: Any) -> bool:
        """Whether the output depends on the array at `path`."""
        away = np.random.default_rng(0).uniform(0.5, 1.5, np.shape(value))
        try:
            result = self.run(self.values, {path: value + away})[2]
            return not np.array_equal(
                self.output(self.way_outs(result)), self.output(self.way_outs(self.run(self.values)[2]))
            )
        except (Exception, SystemExit):
            return True

    def way_outs(self, result: Any) -> Any:
        return self.way.outs(result)

    def named(self, path: Path) -> str:
        """What a parameter is called in the report."""
        short = path[1:] if len(path) > 1 and str(path[0][1]).strip("_").lower() in BOXES else path
        key = short[0][1] if len(short) == 1 and isinstance(short[0][1], str) else text(path)
        return key if key not in self.values else text(path) if text(path) not in self.values else f"self.{text(path)}"

    def by_shape(self, loose: list[Source], free: list[Path], returned: Any, after: Any) -> dict[Path, Source]:
        """Gradients without names: each to the one array of its shape, all in order, or one vector in pieces."""
        shapes = [np.shape(get(self.owner, p)) for p in free]
        found = [np.shape(self.read(source, returned, after)) for source in loose]
        if shapes and shapes == found:
            return dict(zip(free, loose, strict=True))
        if free and len(loose) == 1 and found[0] == (sum(int(np.prod(shape)) for shape in shapes),):
            ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
            spans = zip(free, ends, ends[1:], shapes, strict=False)
            return {p: ("part", loose[0], start, stop, shape) for p, start, stop, shape in spans}
        one = {shape for shape in shapes if shapes.count(shape) == found.count(shape) == 1}
        return {p: loose[found.index(shape)] for p, shape in zip(free, shapes, strict=True) if shape in one}

    def by_update(self, free: list[Path], state: Any, dout: Array) -> dict[Path, Source]:
        """Gradients read off what backward subtracts from a parameter, where the learning rate is known."""
        after = [self.back(self.way, factor * dout, state)[1] for factor in (1.0, 2.0)] if free else []
        steps = {p: [get(state[0], p) - get(thing, p) for thing in after] for p in free}
        steps = {p: both for p, both in steps.items() if both[0].any()}
        if not steps:
            return {}
        names = ", ".join(map(text, steps))
        rates = {float(v) for p, v in numbers(state[0]).items() if p and RATE.match(str(p[-1][1])) and np.ndim(v) == 0}
        rates = {1.0} if "rate" in self.way.sources else rates
        if len(rates) != 1 or not min(rates) > 0:
            self.notes.append(f"backward updates {names}, but the learning rate is not known: no gradient can be told")
            return {}
        rate = rates.pop()
        if not all(np.allclose(2 * one, two, rtol=1e-6, atol=1e-9 * abs(two).max()) for one, two in steps.values()):
            self.notes.append(f"backward updates {names} by something else than a rate times the gradient")
            return {}
        self.notes.append(
            f"the gradients of {names} are read off their update in backward, with learning rate {rate:g}"
        )
        return {p: ("update", p, rate) for p in steps}

    # --- the case -------------------------------------------------------------------------------------------

    def describe(self, dout: Array, state: Any, returned: Any, after: Any) -> None:
        """Notes on what was found."""
        self.factor = self.reduced = False
        read = self.read_all(returned, after)
        if self.out.size == 1:
            again = self.back(self.way, 2 * dout, state)
            other = self.read_all(*again)
            self.factor = all(np.array_equal(read[k], other[k]) for k in read) and any(g.any() for g in read.values())
            if self.factor:
                self.notes.append("dout is not used: checked at dout = 1")
        elif not self.way.uses_dout:
            self.factor = self.reduced = True
            self.mean = self.is_mean(read)
            what = "mean" if self.mean else "sum"
            self.notes.append(f"backward takes no dout: checked as the gradient of the {what} of all outputs")
        if self.owner is None:
            return
        kept = {key: text(s[1]) for key, s in self.sources.items() if s[0] == "attribute"}
        where = "".join(f"; {key}: {place}" for key, place in kept.items())
        self.notes.insert(0, f"called as {self.forward}({', '.join(self.given)}) and {self.backward}{self.way}{where}")
        if self.way.outputs is None:
            self.notes.append("what backward needs is kept on the layer: one layer cannot serve two branches")
        added = [key for key in kept if self.adds(key, dout, after, state)]
        if added:
            self.notes.append(f"gradients add up from call to call: {', '.join(added)}")

    def adds(self, key: str, dout: Array, after: Any, state: Any) -> bool:
        """Whether a second backward pass adds to the gradient that the first left."""
        first = np.asarray(get(after, self.sources[key][1]), float)
        try:
            thing = Copies((after, *state[1:])).make()
            self.way.call(self.method(self.backward, thing[0]), dout, thing[2], thing[1])
        except (Exception, SystemExit):
            return False
        second = np.asarray(get(thing[0], self.sources[key][1]), float)
        return bool(first.any()) and second.shape == first.shape and bool(np.allclose(second, 2 * first))

    def is_mean(self, read: Arrays) -> bool:
        """Whether the gradients are rather those of the mean of all outputs than of their sum."""
        key = next(iter(read))
        v = np.random.default_rng(1).choice([-1.0, 1.0], self.values[key].shape)
        h = 1e-4 * (float(abs(self.values[key]).max(initial=0)) or 1.0)
        sides = []
        for sign in (1, -1):
            result = self.run({**self.values, key: self.values[key] + sign * h * v})[2]
            sides.append(float(np.sum(self.output(self.way.outs(result)))))
        numeric, analytic = (sides[0] - sides[1]) / (2 * h), float((read[key] * v).sum())
        return abs(self.out.size * analytic - numeric) < abs(analytic - numeric)

    def case(self) -> Case:
        """The case of all arrays whose gradients were found."""
        arrays = {key: self.values[key] for key in self.values if key in self.sources}
        constants = {key: self.values[key] for key in self.values if key not in self.sources}

        def forward(values: Arrays) -> tuple[Any, Any]:
            state = self.run({**constants, **values})
            out = joined(self.way.outs(state[2]))
            if self.reduced:
                out = np.mean(out) if self.mean else np.sum(out)
            return out, (state, {key: values[key].copy() for key in self.places})

        def backward(dout: Array, cache: Any) -> Arrays:
            state, values = cache
            returned, thing = self.back(self.way, np.ones(self.out.shape) if self.reduced else dout, state)
            found = {key: self.read(source, returned, thing, values) for key, source in self.sources.items()}
            for key, gradient in found.items():
                if gradient is None:
                    raise Broken(f"backward left no gradient of {key} this time", INCONCLUSIVE)
                if self.factor:
                    found[key] = np.asarray(gradient) * float(np.asarray(dout).item())
                if arrays[key].ndim == 0 and np.size(gradient) == 1:
                    found[key] = np.reshape(gradient, ())
            return found

        inputs = tuple(key for key in arrays if key not in self.places)
        case = Case(
            self.name,
            arrays,
            forward,
            backward,
            inputs=inputs,
            batch=self.owner is not None and len(self.given) == 1 and not self.reduced and self.out.ndim > 0,
            owner=self.owner,
            fresh=self.owner is not None,
            notes=self.notes,
        )
        missing = self.missing(constants)
        if missing:
            case.extra = lambda: missing
        return case

    def missing(self, constants: Arrays) -> list[Check]:
        """A check that is not PASS for floats that were given, matter, and have no gradient."""
        asked = []
        for key in constants:
            if self.out.size == 1 and LABELS.match(key) and inputs_first(key, self.given):
                self.notes.append(f"{key} has no gradient; it was taken for labels, and not checked")
            elif self.argument_moves(key):
                asked.append(key)
            else:
                self.notes.append(f"{key} has no gradient, and the output does not depend on it")
        if not asked:
            return []
        sentence = f"no gradient was found of {', '.join(asked)}, which the output depends on: not checked"
        advice = "return it, or, where it is a constant, leave it out of the arguments"
        return [Check("arguments", INCONCLUSIVE, f"{sentence}; {advice}")]

    def argument_moves(self, key: str) -> bool:
        moved = self.values[key] + np.random.default_rng(0).uniform(0.5, 1.5, self.values[key].shape)
        try:
            return not np.array_equal(joined(self.way.outs(self.run({**self.values, key: moved})[2])), self.out)
        except (Exception, SystemExit):
            return True


def inputs_first(key: str, given: Mapping[str, Any]) -> bool:
    return next(iter(given)) != key


def _fits(gradient: Any, array: Array) -> bool:
    try:
        return bool(np.shape(gradient) == array.shape)
    except Exception:  # a foreign tensor, a ragged list
        return False


# --- names ------------------------------------------------------------------------------------------------


def _path(key: Key) -> Path:
    """Where a returned gradient is, by its names alone."""
    return tuple(("[]", part) for number, part in enumerate(key) if number or isinstance(part, str))


def _words(path: Path) -> tuple[Any, ...]:
    """The names along a path, without those that say nothing."""
    words = [key.strip("_") if isinstance(key, str) else key for _, key in path]
    return tuple(word for word in words if not (isinstance(word, str) and word.lower() in BOXES))


def _stripped(word: str) -> Iterator[str]:
    """What a gradient by the name `word` may be the gradient of."""
    low = word.lower()
    yield from (word[len(mark) :].strip("_") for mark in BEFORE if low.startswith(mark) and len(word) > len(mark))
    yield from (word[: -len(mark)].strip("_") for mark in AFTER if low.endswith(mark) and len(word) > len(mark))


def _variants(path: Path) -> Iterator[tuple[Any, ...]]:
    """The names of what may have its gradient at `path`."""
    words = _words(path)
    rest = tuple(w for w in words if not (isinstance(w, str) and w.lower() in GRADIENTS))
    if rest != words:
        yield rest
    for number, word in enumerate(rest):
        if isinstance(word, str):
            yield from ((*rest[:number], short, *rest[number + 1 :]) for short in _stripped(word))


def _gradient_of(path: Path, returned: bool, wanted: Sequence[str]) -> bool:
    names = [*_variants(path), *([_words(path)] if returned else [])]
    return any(len(name) == 1 and str(name[0]).lower() in {w.lower() for w in wanted} for name in names)


def _is_box(path: Path) -> bool:
    """Whether `path` leads through a container of gradients."""
    return any(isinstance(key, str) and key.strip("_").lower() in GRADIENTS for _, key in path)


def _is_gradient(path: Path, candidates: Mapping[Path, Any]) -> bool:
    others = {_words(p) for p in candidates if p != path}
    return _is_box(path) or any(name in others for name in _variants(path))


def _match(leaves: list[tuple[Source, Path]], candidates: list[Path]) -> dict[Path, Source]:
    """Which gradient is of which parameter, by name: exactly, then whatever the case, then ``weights`` as ``w``."""
    pairs: dict[Path, Source] = {}

    def low(words: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(word.lower() if isinstance(word, str) else word for word in words)

    def same(words: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(SAME.get(word, word) for word in low(words))

    folds: list[Callable[[tuple[Any, ...]], tuple[Any, ...]]] = [lambda words: words, low, same]
    for fold in folds:
        known: dict[tuple[Any, ...], list[Path]] = {}
        for path in candidates:
            if path not in pairs:
                known.setdefault(fold(_words(path)), []).append(path)
        for source, path in leaves:
            if source in pairs.values():
                continue
            names = [*_variants(path), *([_words(path)] if source[0] == "returned" else [])]
            owners = [known[fold(n)] for n in names if fold(n) in known]
            owner = next((paths[0] for paths in owners if len(paths) == 1 and paths[0] != path), None)
            if owner is not None and owner not in pairs:
                pairs[owner] = source
    gradients = {source[1] for source in pairs.values() if source[0] == "attribute"}
    return {path: source for path, source in pairs.items() if path not in gradients}
