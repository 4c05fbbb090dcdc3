"""Other people's layers and functions as cases: how they are called and where their gradients are is found by trying.

An object is copied before each forward pass, with the values of the point in it, and before each backward pass. So
state on self, gradients that add up, running averages and random generators of the layer's own disturb nothing, and
the user's object stays as it is. Parameters are floats or arrays with a gradient beside them (``W`` and ``dW``,
``params["W"]`` and ``grads["W"]``, ``weights[0]`` and ``dweights[0]``), by name; gradients without a name are
assigned by shape or in order; and where backward updates a parameter, the gradient is read off the update.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MethodType
from typing import Any

import numpy as np

from siamese_np.errors import OptionError, ShapeError
from siamese_np.gradcheck import calls
from siamese_np.gradcheck.case import INCONCLUSIVE, Array, Arrays, Broken, Case, Check, as_array, describe, kind
from siamese_np.gradcheck.names import BOXES, Source, in_gradients, is_gradient, match, names_of, path_of
from siamese_np.gradcheck.objects import RECIPE, Call, Copies, Path, arrays_of, get, numbers, put, text

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
UNCLEAR = ("y", "t", "ys", "ts")  # names of labels, but not of them alone


def method_of(thing: Any, names: Iterable[str]) -> str:
    """The first of `names` that is a method of `thing`, or ""."""
    return next((name for name in names if callable(getattr(thing, name, None))), "")


def both_ways(thing: Any) -> tuple[str, str]:
    """The names of the methods of `thing` that go forward and backward; "" where there is none."""
    return method_of(thing, FORWARD), method_of(thing, BACKWARD) or method_of(thing, DERIVATIVE)


def found_case(name: str, thing: Any, forward: Any, backward: Any, values: Sequence[Any]) -> Case:
    """A case of methods, by name, of `thing`, or of functions, where it is None; `values` are the arguments.

    Without `backward`, forward returns a scalar loss and its gradients; of a method, they may be those of the
    parameters of its object. OptionError or ShapeError, with what to write instead, where nothing is found to check.
    """
    if backward is None and isinstance(forward, MethodType):
        thing, forward = forward.__self__, forward.__name__
    given = calls.arguments(getattr(thing, forward) if thing is not None else forward, values)
    if thing is None and not any(map(calls.is_checked, given.values())):  # then whole numbers are meant as floats
        whole = {k: np.asarray(v) for k, v in given.items() if isinstance(v, (int, list, np.ndarray, np.integer))}
        given |= {k: v.astype(np.float64) for k, v in whole.items() if v.size and v.dtype.kind in "iu"}
    with calls.quiet():
        return _Finder(name, thing, forward, backward, given).case()


class _Finder:
    """How the passes of an object, or of two functions, are called, and where each gradient is."""

    def __init__(self, name: str, thing: Any, forward: Any, backward: Any, given: dict[str, Any]) -> None:
        self.name, self.forward, self.backward, self.given = name, forward, backward, given
        rest = {key: value for key, value in given.items() if not calls.is_checked(value)}
        self.owner: Call = Copies(Call(thing, rest)).make()  # of which all copies are; it never runs
        self.copies = Copies(self.owner)
        self.notes = calls.not_checked(given)
        self.places: dict[str, Path] = {}  # of the parameters on the object
        self.sources: dict[str, Source] = {}  # of the gradients
        self.values: Arrays = {key: value for key, value in given.items() if calls.is_checked(value)}
        self.ignores_dout = False  # then the gradients are multiplied by it
        self.reduce: Any = None  # np.mean or np.sum of all outputs, where backward takes no dout
        self.find()

    # --- passes ---------------------------------------------------------------------------------------------

    def method(self, which: Any, call: Call) -> Callable[..., Any]:
        if which is None:  # forward returns the gradients, as what is else the cache
            return lambda gradients: gradients
        method: Callable[..., Any] = getattr(call.thing, which) if isinstance(which, str) else which
        return method

    def run(self, values: Mapping[str, Array], moved: Mapping[Path, Any] | None = None) -> tuple[Any, ...]:
        """A forward pass of a fresh copy: the copy, all arguments, copied too, and what it returned."""
        return self.run_on({key: value.copy() for key, value in values.items()}, moved)

    def run_on(self, values: Mapping[str, Array], moved: Mapping[Path, Any] | None = None) -> tuple[Any, ...]:
        call = self.copies.make()
        for path, value in [*(moved or {}).items(), *((path, values[key]) for key, path in self.places.items())]:
            put(call, path, value)
        given = {key: values[key] if key in self.values else call.given[key] for key in self.given}
        result = self.method(self.forward, call)(*given.values())
        return call, given, _kept_output(call.thing) if result is None else result

    def back(self, way: calls.Way, dout: Array, state: tuple[Any, ...]) -> tuple[Any, Any]:
        """What backward returned after the forward pass `state`, and the object after it."""
        call, given, result = Copies(state).make() if state[0].thing is not None else state
        known = {**given, "": _kept_output(call.thing)} if "=" in way.sources else given
        return way.call(self.method(self.backward, call), dout, result, known), call

    def output(self, outs: Any) -> Array:
        out = as_array("forward must return one NumPy array as its output, but it", calls.joined(outs))
        if not np.issubdtype(out.dtype, np.floating):
            raise OptionError(f"forward must return floating-point numbers, but its output is {kind(outs)}")
        return out

    def run_with(self, of: str | Path, value: Any) -> Array:
        """The output where the argument, or the number at a path, has another value."""
        state = self.run({**self.values, of: value}) if isinstance(of, str) else self.run(self.values, {of: value})
        return self.output(self.way.outs(state[2]))

    def matters(self, of: str | Path, value: Any) -> bool:
        """Whether the output changes with an argument, or with the number at a path."""
        away = np.asarray(value + np.random.default_rng(0).uniform(0.5, 1.5, np.shape(value)))
        try:
            return not np.array_equal(self.run_with(of, away), self.out)
        except (Exception, SystemExit):
            return True

    # --- how it is called -----------------------------------------------------------------------------------

    def find(self) -> None:
        """Find the way that backward is called and the sources of all gradients; or OptionError."""
        called = f"{self.name}: {self.forward}" if isinstance(self.forward, str) else self.name
        try:
            state = self.run(self.values)
            first = state[2][0] if isinstance(state[2], tuple) else state[2]
            if getattr(first, "dtype", None) != np.float32:  # what rounds to float32 itself is left as it is
                self.owner = self.copies.make(as_float64=True)
                self.copies = Copies(self.owner)
                state = self.run(self.values)
        except (Exception, SystemExit) as error:
            shapes = ", ".join(f"{key} {np.shape(v)}" if hasattr(v, "shape") else key for key, v in self.given.items())
            raise OptionError(f"{called} cannot be called with {shapes}: it raised {describe(error)}") from error
        if self.backward is not None:
            possible = calls.ways(state[2], self.method(self.backward, state[0]), list(self.given))
        elif isinstance(state[2], tuple) and len(state[2]) == 2 and np.size(state[2][0]) == 1:
            possible = iter([calls.Way(1, ("cache",))])
        else:
            raise OptionError(
                f"{self.name} must return a scalar loss and its gradients, (loss, dx), or be given with its backward "
                f"pass, backward=, or its derivative, grad= or jac=; it returned {kind(state[2])}"
            )
        failed: list[Exception] = []
        found: tuple[Any, ...] = ()  # the first way that fits, or else the first that can be called
        for way in possible:
            try:
                out = self.output(way.outs(state[2]))
                dout = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)
                returned, after = self.back(way, dout, state)
                sources = self.of_arguments(returned, after)
            except (ShapeError, OptionError) as error:
                failed.append(error)
                continue
            except (Exception, SystemExit) as error:
                sentence = f"{self.name}: backward{way} raised {describe(error)}, and no other way to call it was found"
                failed.append(OptionError(sentence, RECIPE))
                continue
            read = {key: self.read(source, returned, after) for key, source in sources.items()}
            usual = way.sources == ("dout", "cache")  # then a gradient of another shape is a fault, not a sign
            good = usual or all(_fits(gradient, self.values[key]) for key, gradient in read.items())
            good = good and bool(sources or list(calls.leaves(returned)) or _wrote(state[0], after))
            if good and not way.uses_dout and failed:  # one of several ways to leave it out: that which is right
                self.way, ones = way, np.ones(out.shape)
                good = all(self.is_slope(key, np.asarray(g), ones, out.size) for key, g in read.items())
            if good or not found:
                found = way, out, sources, returned, after, dout
            if good:
                break
        if not found:
            misfit = f"forward returned {kind(state[2])}, which does not fit what its backward takes"
            raise failed[0] if failed else OptionError(f"{self.name}: {misfit}", RECIPE)
        self.way, self.out, sources, returned, after, dout = found
        self.find_parameters(state, returned, after, dout, set(sources.values()))
        self.sources = {**sources, **self.sources}
        if not self.sources:
            raise OptionError(f"{self.name}: backward gave no gradient, neither returned nor kept", RECIPE)
        self.describe(dout, state, returned, after)

    def in_order(self, returned: Any, after: Any) -> tuple[dict[str, calls.Key], list[tuple[calls.Key, Any]]]:
        """As `calls.in_order`, but an object may return the gradients of its parameters alone."""
        placed, rest = calls.in_order(returned, self.given)
        shapes = {value.shape for value in arrays_of(after.thing).values()}
        gradients = {key: calls.pick(returned, place) for key, place in placed.items()}
        misfits = [g for key, g in gradients.items() if not _fits(g, self.values[key])]
        if any(getattr(gradient, "shape", None) in shapes for gradient in misfits):
            return {}, list(calls.leaves(returned))
        return placed, rest

    def of_arguments(self, returned: Any, after: Any) -> dict[str, Source]:
        """Where the gradients of the arguments are: returned, or kept by the object."""
        placed, rest = self.in_order(returned, after)
        count = len(returned) if isinstance(returned, (tuple, list)) else 1
        plain = after.thing is None and self.backward is not None and not any(map(calls.is_box, self.given.values()))
        misfit = rest or (count not in (len(self.given), len(self.values)) and len(self.values) > 1)
        if plain and misfit and returned is not None and not isinstance(returned, Mapping):
            raise OptionError(
                f"backward must return {len(self.values)} gradients ({', '.join(self.values)}), in this order and None "
                f"where there is none, but it returned {count}"
            )
        sources: dict[str, Source] = {key: ("returned", place) for key, place in placed.items()}
        for key in self.values:
            wanted = {key.lower(), *(OF_INPUT if len(self.values) == 1 else ())}
            for source, path in self.spots(rest, after):
                names = names_of(source, path) if len(path) == 1 else []
                if any(len(name) == 1 and str(name[0]).lower() in wanted for name in names):
                    sources.setdefault(key, source)
        return sources

    def spots(self, rest: list[tuple[calls.Key, Any]], after: Any) -> list[tuple[Source, Path]]:
        """Where gradients may be: the `rest` of what is returned, and all numbers that the object keeps."""
        returned: list[tuple[Source, Path]] = [(("returned", key), path_of(key)) for key, _ in rest]
        return [*returned, *((("attribute", path), path) for path in numbers(after))]

    def read(self, source: Source, returned: Any, call: Any, values: Mapping[str, Array] | None = None) -> Any:
        """The gradient at `source`."""
        if source[0] == "returned":
            return calls.pick(returned, source[1])
        if source[0] == "attribute":
            return get(call, source[1])
        if source[0] == "part":
            return np.ravel(self.read(source[1], returned, call))[source[2] : source[3]].reshape(source[4])
        _, path, rate, key = source
        return ((values or self.values)[key] - get(call, path)) / rate

    def read_all(self, returned: Any, call: Any) -> Arrays:
        found = {key: self.read(source, returned, call) for key, source in self.sources.items()}
        return {key: as_array(f"the gradient of {key} must be a NumPy array, but it", g) for key, g in found.items()}

    # --- parameters -----------------------------------------------------------------------------------------

    def find_parameters(self, state: Any, returned: Any, after: Any, dout: Array, taken: set[Source]) -> None:
        """Find the parameters on the object, or in the arguments, and the sources of their gradients."""
        before, later = numbers(state[0]), numbers(after)
        self.adopt_lazy(before)
        values = {p: v for p, v in before.items() if all(step[0] != "()" for step in p) and self.has(p)}
        spots = self.spots(self.in_order(returned, after)[1], after)
        same = {p for p, v in later.items() if p in before and np.array_equal(v, before[p])}
        # those first that are returned, then those that backward wrote
        spots = sorted(spots, key=lambda spot: spot[0][0] != "returned" and spot[1] in same)
        spots = [spot for spot in spots if spot[0] not in taken]
        pairs = match(spots, list(values))
        arrays = [p for p, v in values.items() if isinstance(v, np.ndarray) and not is_gradient(p, values)]
        stays = self.survivors({*pairs, *arrays}, values)
        pairs = {p: source for p, source in pairs.items() if p in stays}
        known = [values[p] for p in pairs]
        free = [p for p in arrays if p in stays and not any(np.may_share_memory(values[p], other) for other in known)]
        free = [p for p in free if self.matters(p, values[p])]
        loose = [s for s, p in spots if s not in pairs.values() and (s[0] == "returned" or in_gradients(p))]
        pairs.update(self.by_shape(loose, free, [self.read(source, returned, after) for source in loose], dout))
        pairs.update(self.by_update([p for p in free if p not in pairs], state, dout))
        for path in (p for p in values if p in pairs):
            key, source = self.named(path), pairs[path]
            self.places[key], self.values[key] = path, np.array(values[path], np.float64)
            self.sources[key] = (*source, key) if source[0] == "update" else source
            if source[0] == "attribute" and self.has(source[1]):
                put(self.owner, source[1], np.zeros_like(get(self.owner, source[1])))
        self.copies = Copies(self.owner)

    def has(self, path: Path) -> bool:
        return get(self.owner, path) is not None

    def adopt_lazy(self, before: Mapping[Path, Any]) -> None:
        """Where forward makes parameters when it is first called, go on from the object that has them."""
        new = [p for p, v in before.items() if isinstance(v, np.ndarray) and not self.has(p)]
        if new:
            cold, self.owner = self.owner, Copies(self.run(self.values)[0]).make()
            self.copies = Copies(self.owner)
            if not any(self.survivors({p}, before) and self.matters(p, before[p]) for p in new):
                self.owner, self.copies = cold, Copies(cold)

    def survivors(self, paths: Iterable[Path], values: Mapping[Path, Any]) -> set[Path]:
        """Which of the numbers at `paths` are still there after a forward pass that began with others."""
        bumped = {p: np.asarray(values[p]) * (1 + 2.0**-10) + 2.0**-10 for p in paths}
        try:
            call = self.run(self.values, bumped)[0]
        except (Exception, SystemExit):
            return set(bumped)
        return {p for p in bumped if np.array_equal(get(call, p), bumped[p])}

    def named(self, path: Path) -> str:
        """What a parameter is called in the report."""
        short = path[1:] if len(path) > 1 and path[0][0] and BOXES.fullmatch(str(path[0][1]).strip("_")) else path
        key = short[0][1] if len(short) == 1 and isinstance(short[0][1], str) else text(path)
        return key if key not in self.values else text(path) if text(path) not in self.values else f"self.{text(path)}"

    def by_shape(self, loose: list[Source], free: list[Path], given: list[Any], dout: Array) -> dict[Path, Source]:
        """Gradients without names: one vector in pieces, or each to an array of its shape, by their order.

        Of several arrays of one shape, those whose slope a gradient has come first: nobody said what their order is.
        """
        shapes = [np.shape(get(self.owner, p)) for p in free]
        ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
        if free and [np.shape(g) for g in given] == [(ends[-1],)] != shapes:
            spans = zip(free, ends, ends[1:], shapes, strict=False)
            return {p: ("part", loose[0], start, stop, shape) for p, start, stop, shape in spans}
        pairs: dict[Path, Source] = {}
        for surely in (True, False):
            for path, shape in zip(free, shapes, strict=True):
                left = [i for i, s in enumerate(loose) if np.shape(given[i]) == shape and s not in pairs.values()]
                if surely and shapes.count(shape) > 1:
                    left = [i for i in left if self.is_slope(path, np.asarray(given[i]), dout)]
                if left and path not in pairs:
                    pairs[path] = loose[left[0]]
        return pairs

    def is_slope(self, of: str | Path, gradient: Array, dout: Array, mean_of: int = 1) -> bool:
        """Whether, roughly, `gradient` is that of an argument or of the array at a path, or a `mean_of`-th of it."""
        value = self.values[of] if isinstance(of, str) else get(self.owner, of)
        v = np.random.default_rng(1).choice([-1.0, 1.0], gradient.shape)
        h = 1e-4 * (float(abs(value).max(initial=0)) or 1.0)
        try:
            above, below = (float((self.run_with(of, value + step * v) * dout).sum()) for step in (h, -h))
        except (Exception, SystemExit):
            return False
        numeric, within = (above - below) / (2 * h), 1e-4 * abs(gradient).sum()
        return any(abs(numeric / n - (gradient * v).sum()) <= within for n in (1, mean_of))

    def steps(self, state: Any, dout: Array, paths: Iterable[Path]) -> dict[Path, Array]:
        """What backward subtracts from the arrays at `paths`."""
        call = self.back(self.way, dout, state)[1]
        return {p: get(state[0], p) - get(call, p) for p in paths}

    def by_update(self, free: list[Path], state: Any, dout: Array) -> dict[Path, Source]:
        """Gradients read off what backward subtracts from a parameter, where the learning rate is known."""
        once = {p: step for p, step in self.steps(state, dout, free).items() if step.any()} if free else {}
        if not once:
            return {}
        names = ", ".join(map(text, once))
        scalars = {p: float(v) for p, v in numbers(state[0]).items() if p and not np.ndim(v)}
        rates = {p: v for p, v in scalars.items() if calls.RATE.match(str(p[-1][1]))}
        known = {1.0} if "rate" in self.way.sources else set(rates.values())
        if len(known) == 1 and "rate" not in self.way.sources:  # twice the rate, twice the step
            twice = self.steps(self.run(self.values, {p: 2 * rate for p, rate in rates.items()}), dout, once)
            known = known if all(_twice(twice[p], once[p]) for p in once) else set()
        if len(known) != 1 or not min(known) > 0:
            self.notes.append(f"backward updates {names}, but the learning rate is not known: no gradient can be told")
            return {}
        doubled = self.steps(state, 2 * dout, once)
        if not all(_twice(doubled[p], once[p]) for p in once):
            self.notes.append(f"backward updates {names} by something else than a rate times the gradient")
            return {}
        (rate,) = known
        self.notes.append(f"the gradients of {names} are read off their update in backward, learning rate {rate:g}")
        return {p: ("update", p, rate) for p in once}

    # --- the case -------------------------------------------------------------------------------------------

    def describe(self, dout: Array, state: Any, returned: Any, after: Any) -> None:
        """Whether dout is used, and notes on what was found."""
        read = self.read_all(returned, after)
        if self.out.size == 1:
            twice = self.read_all(*self.back(self.way, 2 * dout, state))
            if all(np.array_equal(read[k], twice[k]) for k in read) and any(g.any() for g in read.values()):
                self.ignores_dout = True
                self.notes.append("dout is not used: checked at dout = 1")
        elif not self.way.uses_dout:
            self.ignores_dout, key = True, next(iter(read))
            is_mean = self.is_slope(key, read[key], np.full(self.out.shape, 1 / self.out.size))
            self.reduce, what = (np.mean, "mean") if is_mean else (np.sum, "sum")
            self.notes.append(f"backward takes no dout: checked as the gradient of the {what} of all outputs")
        if self.owner.thing is None:
            return
        kept = {key: source[1] for key, source in self.sources.items() if source[0] == "attribute"}
        where = "".join(f"; {key}: {text(path)}" for key, path in kept.items())
        back = f" and {self.backward}{self.way}" if self.backward is not None else ", which returns the gradients"
        self.notes.insert(0, f"called as {self.forward}({', '.join(self.given)}){back}{where}")
        if self.way.outputs is None:
            self.notes.append("what backward needs is kept on the layer: one layer cannot serve two branches")
        try:
            again = self.back(self.way, dout, (after, *state[1:]))[1]
        except (Exception, SystemExit):  # it can be called once
            return
        added = [key for key, path in kept.items() if read[key].any() and _twice(get(again, path), read[key])]
        if added:
            self.notes.append(f"gradients add up from call to call: {', '.join(added)}")

    def case(self) -> Case:
        """The case of all arrays whose gradients were found."""
        arrays = {key: value for key, value in self.values.items() if key in self.sources}
        constants = {key: value for key, value in self.values.items() if key not in self.sources}

        def forward(values: Arrays) -> tuple[Any, Any]:
            state = self.run_on({**constants, **values})
            try:
                out = self.output(self.way.outs(state[2]))
            except (ShapeError, OptionError, LookupError, TypeError) as error:
                raise Broken(f"forward changed what it returns: now {kind(state[2])}", INCONCLUSIVE) from error
            out = np.asarray(self.reduce(out)) if self.reduce else out
            return out, (state, {key: values[key].copy() for key in self.places})

        def backward(dout: Array, cache: Any) -> Arrays:
            state, values = cache
            returned, call = self.back(self.way, np.ones(self.out.shape) if self.reduce else dout, state)
            found = {key: self.read(source, returned, call, values) for key, source in self.sources.items()}
            for key, gradient in found.items():
                if gradient is None:
                    raise Broken(f"backward left no gradient of {key} this time", INCONCLUSIVE)
                if self.ignores_dout:
                    found[key] = np.asarray(gradient) * float(np.asarray(dout).item())
                if arrays[key].ndim == 0 and np.size(gradient) == 1:
                    found[key] = np.reshape(found[key], ())
            return found

        missing = self.missing(constants)
        return Case(
            self.name,
            arrays,
            forward,
            backward,
            inputs=tuple(key for key in arrays if key not in self.places),
            batch=self.owner.thing is not None and len(self.given) == 1 and self.out.ndim > 0,
            owner=self.owner if self.owner.thing is not None or arrays_of(self.owner) else None,
            fresh=True,
            extra=(lambda: missing) if missing else None,
            notes=self.notes,
        )

    def missing(self, constants: Arrays) -> list[Check]:
        """A check that is not PASS for floats that were given, matter, and have no gradient."""
        asked = []
        for key, value in constants.items():
            clear = self.owner.thing is not None or key not in UNCLEAR
            if self.out.size == 1 and calls.LABELS.match(key) and clear and key != next(iter(self.given)):
                self.notes.append(f"{key} has no gradient; it was taken for labels, and not checked")
            elif self.matters(key, value):
                asked.append(key)
            else:
                self.notes.append(f"{key} has no gradient, and the output does not depend on it")
        sentence = f"no gradient was found of {', '.join(asked)}, which the output depends on: not checked"
        advice = "return it, or, where it is a constant, leave it out of the arguments"
        return [Check("arguments", INCONCLUSIVE, f"{sentence}; {advice}")] if asked else []


def _kept_output(thing: Any) -> Any:
    kept = (getattr(thing, key, None) for key in OUTPUTS)
    return next((value for value in kept if value is not None), None)


def _wrote(before: Any, after: Any) -> bool:
    """Whether backward changed a number of the object."""
    old, new = numbers(before), numbers(after)
    return any(p not in old or not np.array_equal(old[p], v, equal_nan=True) for p, v in new.items())


def _twice(second: Any, first: Array) -> bool:
    atol = 1e-9 * float(abs(first).max(initial=0))
    return np.shape(second) == first.shape and bool(np.allclose(second, 2 * first, rtol=1e-6, atol=atol))


def _fits(gradient: Any, array: Array) -> bool:
    try:
        return bool(np.shape(gradient) == array.shape)
    except Exception:  # a foreign tensor, a ragged list
        return False
