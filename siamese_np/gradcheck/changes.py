"""By how much a step moves each output, in little memory.

Where outputs are many, only those that some step moves are kept. Where those are still many, two sums are kept for
each side: over the outputs that bend up and over those that bend down, both weighted with dout. The slope and the jump
between the sides, added up over all outputs, stay what they are; slopes of single outputs are then not known.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_np.gradcheck.case import Floats

ALL = 512  # outputs: up to so many are kept whether they move or not
FEW = 10_000  # outputs that move: up to so many are kept one by one
BLOCK = 16_384  # outputs at a time: they stay in the processor's cache

Columns = NDArray[np.intp]


@dataclass
class Spread:
    """Numbers of some outputs, as an array of all: 0 for the others; NaN, or False, where `columns` are not known."""

    values: NDArray[Any]
    columns: Columns | None
    size: int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        full = np.zeros(self.size, self.values.dtype)
        if self.columns is not None:
            full[self.columns] = self.values
        elif full.dtype != bool:
            full[:] = np.nan
        return full if dtype is None else full.astype(dtype)


class Changes:
    """Right and left slopes of the outputs at one step after another."""

    right: Floats  # (steps, columns), as left
    left: Floats
    still: float  # the error, weighted, of the outputs that are not kept because no step moves them
    columns: Columns | None  # which outputs they are; None where the two columns are sums

    def __init__(self, out: Floats, dout: Floats, rounding: Floats) -> None:
        self.out, self.dout, self.rounding = out.ravel(), dout.ravel(), rounding  # in the end, (columns,)
        self._all = np.arange(out.size)
        self._rows: list[tuple[Columns, Floats, Floats]] = []
        self._sums: list[Floats] = []
        self._moved = np.full(out.size, out.size <= ALL)

    def add(self, right: Floats, left: Floats, h: float) -> None:
        """Take the outputs a step `h` to the right and to the left."""
        right, left = right.ravel(), left.ravel()
        if len(self.out) <= ALL:
            self._rows.append((self._all, (right - self.out) / h, (self.out - left) / h))
            return
        rows, sums = [], np.zeros((2, 2))
        for start in range(0, len(self.out), BLOCK):
            block = slice(start, start + BLOCK)
            out, dout = self.out[block], self.dout[block]
            moved = (right[block] != out) | (left[block] != out)
            columns = np.flatnonzero(moved)
            if len(columns):
                which: Any = columns if len(columns) < len(out) else slice(None)
                out = out[which]
                row = (columns + start, (right[block][which] - out) / h, (out - left[block][which]) / h)
                self._moved[block] |= moved
                # both sides' slopes, over the outputs with the larger loss to the right, and over the others
                after, before = row[1] * dout[which], row[2] * dout[which]
                up = (after >= before).astype(float)
                sums += np.array([[after @ up, before @ up], [after @ (1 - up), before @ (1 - up)]])
                rows.append(row)
        self._sums.append(sums)
        if sum(len(row[0]) for row in rows) <= FEW:
            nothing = (np.zeros(0, np.intp), np.zeros(0), np.zeros(0))
            self._rows.append(tuple(map(np.concatenate, zip(nothing, *rows, strict=True))))  # type: ignore[arg-type]

    def finish(self) -> None:
        """Make arrays of what was added."""
        columns = self._all[self._moved]
        moving = float(self.rounding[self._moved] @ abs(self.dout[self._moved]))
        self.still = max(0.0, float(self.rounding @ abs(self.dout)) - moving) if len(columns) < len(self.out) else 0.0
        if len(columns) <= FEW:
            self.right, self.left = (np.zeros((len(self._rows), len(columns))) for _ in range(2))
            for k, (which, right, left) in enumerate(self._rows):
                here = np.searchsorted(columns, which)
                self.right[k, here], self.left[k, here] = right, left
            self.columns, self.dout, self.rounding = columns, self.dout[columns], self.rounding[columns]
        else:
            self.right, self.left = (np.array([s[:, side] for s in self._sums]) for side in (0, 1))
            first = self.right[:, 0].any() or self.left[:, 0].any()
            self.columns, self.dout = None, np.ones(2)
            self.rounding = np.array([moving, 0.0] if first else [0.0, moving])

    def spread(self, values: NDArray[Any]) -> Spread:
        """Numbers of the columns as an array of all outputs."""
        return Spread(values, self.columns, len(self.out))
