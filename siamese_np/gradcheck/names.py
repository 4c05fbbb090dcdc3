"""Which gradient is that of which parameter, by name: ``dW``, ``W_grad``, ``grads["W"]``, ``dLdW`` are of ``W``."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from siamese_np.gradcheck.calls import Key
from siamese_np.gradcheck.objects import Path

BOXES = re.compile("(param|parameter)s?|data|value|val|array", re.I)  # what says nothing of its own
GRADIENTS = re.compile("(param_?)?(grad|gradient)s?|d_?params|derivatives", re.I)
BEFORE = re.compile("d_?|dl_?d?|d[jec]_?d|dloss_d|grads?_?|gradients?_?|grad_of_|(delta|nabla|g)_", re.I)
AFTER = re.compile("_?(grad|gradient)s?|_d|_delta", re.I)
SAME = {"weight": "w", "weights": "w", "kernel": "w", "kernels": "w", "bias": "b", "biases": "b"}

Source = tuple[Any, ...]  # "returned", key; "attribute", path; "update", path, rate; "part", source, start, stop


def path_of(key: Key) -> Path:
    """Where a returned gradient is, by its names alone."""
    return tuple(("[]", part) for number, part in enumerate(key) if number or isinstance(part, str))


def words_of(path: Path) -> tuple[Any, ...]:
    """The names along a path, without those that say nothing."""
    words = [key.strip("_") if isinstance(key, str) else key for step, key in path if step]
    return tuple(word for word in words if not (isinstance(word, str) and BOXES.fullmatch(word)))


def _stripped(word: str) -> Iterator[str]:
    """What a gradient by the name `word` may be the gradient of."""
    for i in range(1, len(word)):
        if BEFORE.fullmatch(word[:i]):
            yield word[i:].strip("_")
        if AFTER.fullmatch(word[i:]):
            yield word[:i].strip("_")


def variants(path: Path) -> Iterator[tuple[Any, ...]]:
    """The names of what may have its gradient at `path`."""
    words = words_of(path)
    rest = tuple(w for w in words if not (isinstance(w, str) and GRADIENTS.fullmatch(w)))
    if rest != words:
        yield rest
    for number, word in enumerate(rest):
        if isinstance(word, str):
            yield from ((*rest[:number], short, *rest[number + 1 :]) for short in _stripped(word))


def in_gradients(path: Path) -> bool:
    return any(isinstance(key, str) and bool(GRADIENTS.fullmatch(key.strip("_"))) for _, key in path)


def is_gradient(path: Path, candidates: Mapping[Path, Any]) -> bool:
    others = {words_of(p) for p in candidates if p != path}
    return in_gradients(path) or any(name in others for name in variants(path))


def names_of(source: Source, path: Path) -> list[tuple[Any, ...]]:
    """The names of what the gradient at a spot may be of; one that is returned may have the name itself."""
    return [*variants(path), *([words_of(path)] if source[0] == "returned" else [])]


def _folded(words: tuple[Any, ...], fold: Callable[[str], str]) -> tuple[Any, ...]:
    return tuple(fold(word) if isinstance(word, str) else word for word in words)


def match(spots: list[tuple[Source, Path]], candidates: list[Path]) -> dict[Path, Source]:
    """Which gradient is of which parameter, by name: exactly, then whatever the case, then ``weights`` as ``w``."""
    pairs: dict[Path, Source] = {}
    folds: list[Callable[[str], str]] = [str, str.lower, lambda word: SAME.get(word.lower(), word.lower())]
    for fold in folds:
        known: dict[tuple[Any, ...], list[Path]] = {}
        for path in candidates:
            if path not in pairs:
                known.setdefault(_folded(words_of(path), fold), []).append(path)
        for source, path in spots:
            owners = [known.get(_folded(name, fold), []) for name in names_of(source, path)]
            owner = next((paths[0] for paths in owners if len(paths) == 1 and paths[0] != path), None)
            if owner is not None and owner not in pairs and source not in pairs.values():
                pairs[owner] = source
    gradients = {source[1] for source in pairs.values() if source[0] == "attribute"}
    return {path: source for path, source in pairs.items() if path not in gradients}
