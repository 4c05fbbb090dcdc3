// For each array of each kind of layer: its formula in the textbook's names, and for one cell the products it sums.

const inside = ([r, s], [H, W]) => r >= 0 && r < H && s >= 0 && s < W;

/** Flat position of a cell, and back. */
const flat = (shape, cell) => cell.reduce((at, n, axis) => at * shape[axis] + n, 0);
function cellOf(shape, at) {
  const cell = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) { cell[axis] = at % shape[axis]; at = Math.floor(at / shape[axis]); }
  return cell;
}

/** All pairs (i, j) below the two numbers. */
function* places([n, m]) { for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) yield [i, j]; }

/** Places (i, j) of a window and its entry (p, q) that lie on pixel (r, s). */
function* windowsOn(l, [r, s]) {
  const [OH, OW] = l.out.length === 3 ? l.out : [1, 1];
  for (const [p, q] of places(l.window)) {
    const y = r + l.pad[0] - p, x = s + l.pad[1] - q, i = y / l.stride[0], j = x / l.stride[1];
    if (Number.isInteger(i) && Number.isInteger(j) && inside([i, j], [OH, OW])) yield [p, q, i, j];
  }
}

const pixel = (l, i, j, p, q) => [i * l.stride[0] + p - l.pad[0], j * l.stride[1] + q - l.pad[1]];

// Of each kind and array: the formula, and the terms; a term is a list of factors, [array, cell], or [text, null, number].
const FORMULAS = {
  Conv2D: {
    out: {
      formula: "out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*sh + p - ph, j*sw + q - pw, c] * w[p, q, c, f]",
      *terms(l, [i, j, f]) {
        yield [["b", [f]]];
        for (const [p, q] of places(l.window)) {
          const at = pixel(l, i, j, p, q);
          if (inside(at, l.in)) for (let c = 0; c < l.in[2]; c++) yield [["x", [...at, c]], ["w", [p, q, c, f]]];
        }
      },
    },
    dx: {
      formula: "dx[n, r, s, c] = sum over windows (i, j) that see (r, s), and f, of dout[n, i, j, f] * w[p, q, c, f],  p = r + ph - i*sh, q = s + pw - j*sw",
      *terms(l, [r, s, c]) {
        for (const [p, q, i, j] of windowsOn(l, [r, s]))
          for (let f = 0; f < l.out[2]; f++) yield [["dout", [i, j, f]], ["w", [p, q, c, f]]];
      },
    },
    dw: {
      formula: "dw[p, q, c, f] = sum over n, i, j of x[n, i*sh + p - ph, j*sw + q - pw, c] * dout[n, i, j, f]",
      *terms(l, [p, q, c, f]) {
        for (const [i, j] of places(l.out)) {
          const at = pixel(l, i, j, p, q);
          if (inside(at, l.in)) yield [["x", [...at, c]], ["dout", [i, j, f]]];
        }
      },
    },
    db: {
      formula: "db[f] = sum over n, i, j of dout[n, i, j, f]",
      *terms(l, [f]) { for (const at of places(l.out)) yield [["dout", [...at, f]]]; },
    },
  },
  Dense: {
    out: {
      formula: "out[n, e] = b[e] + sum over d of x[n, d] * w[d, e]",
      *terms(l, [e]) { yield [["b", [e]]]; for (let d = 0; d < l.in[0]; d++) yield [["x", [d]], ["w", [d, e]]]; },
    },
    dx: {
      formula: "dx[n, d] = sum over e of dout[n, e] * w[d, e]",
      *terms(l, [d]) { for (let e = 0; e < l.out[0]; e++) yield [["dout", [e]], ["w", [d, e]]]; },
    },
    dw: { formula: "dw[d, e] = sum over n of x[n, d] * dout[n, e]", *terms(l, [d, e]) { yield [["x", [d]], ["dout", [e]]]; } },
    db: { formula: "db[e] = sum over n of dout[n, e]", *terms(l, [e]) { yield [["dout", [e]]]; } },
  },
  ReLU: {
    out: { formula: "out = max(x, 0)", *terms(l, cell, get) { yield [["x", cell], ["x > 0", null, +(get("x", cell) > 0)]]; } },
    dx: { formula: "dx = dout where x > 0, else 0", *terms(l, cell, get) { yield [["dout", cell], ["x > 0", null, +(get("x", cell) > 0)]]; } },
  },
  MaxPool2D: {
    out: {
      formula: "out[n, i, j, c] = max over p, q of x[n, i*sh + p, j*sw + q, c]",
      *terms(l, [i, j, c], get) {
        for (const [p, q] of places(l.window))
          yield [["x", [...pixel(l, i, j, p, q), c]], ["largest", null, +(get("argmax", [i, j, c]) === p * l.window[1] + q)]];
      },
    },
    dx: {
      formula: "dx[n, i*sh + p, j*sw + q, c] += dout[n, i, j, c] for the entry (p, q) that was the largest",
      *terms(l, [r, s, c], get) {
        for (const [p, q, i, j] of windowsOn(l, [r, s]))
          yield [["dout", [i, j, c]], ["largest", null, +(get("argmax", [i, j, c]) === p * l.window[1] + q)]];
      },
    },
  },
  AvgPool2D: {
    out: {
      formula: "out[n, i, j, c] = 1/(KH*KW) * sum over p, q of x[n, i*sh + p, j*sw + q, c]",
      *terms(l, cell) {
        const c = cell.at(-1), [i, j] = cell.length === 3 ? cell : [0, 0];
        for (const [p, q] of places(l.window)) yield [["x", [...pixel(l, i, j, p, q), c]], ["1/(KH*KW)", null, 1 / size(l.window)]];
      },
    },
    dx: {
      formula: "dx[n, i*sh + p, j*sw + q, c] += dout[n, i, j, c] / (KH*KW) for all p, q",
      *terms(l, [r, s, c]) {
        for (const [, , i, j] of windowsOn(l, [r, s]))
          yield [["dout", l.out.length === 3 ? [i, j, c] : [c]], ["1/(KH*KW)", null, 1 / size(l.window)]];
      },
    },
  },
  Flatten: {
    out: { formula: "out[n, d] = x[n, r, s, c], row by row", *terms(l, [d]) { yield [["x", cellOf(l.in, d)]]; } },
    dx: { formula: "dx[n, r, s, c] = dout[n, d], row by row", *terms(l, cell) { yield [["dout", [flat(l.in, cell)]]]; } },
  },
};
FORMULAS.GlobalAvgPool2D = FORMULAS.AvgPool2D;

/** Multiplications of a layer's products as written, and how many have no zero in them; null where there are none. */
function multiplications(l, pass, x, dout) {
  const nonzero = (array) => array.reduce((n, v) => n + (v !== 0), 0);
  if (l.kind === "Dense") {
    const written = size(l.in) * size(l.out);
    if (pass === "forward") return [written, nonzero(x) * l.out[0]];
    return [2 * written, nonzero(dout) * l.in[0] + nonzero(dout) * nonzero(x)];
  }
  if (l.kind !== "Conv2D") return null;
  const [, W, C] = l.in, [, OW, F] = l.out, written = size(l.window) * C * size(l.out);
  let left = 0, leftBack = 0;
  const counts = dout && new Uint32Array(l.out[0] * OW);
  if (dout) for (let k = 0; k < dout.length; k++) counts[Math.floor(k / F)] += dout[k] !== 0;
  for (const [i, j] of places(l.out)) for (const [p, q] of places(l.window)) {
    const [r, s] = pixel(l, i, j, p, q);
    if (!inside([r, s], l.in)) continue;
    let n = 0;
    for (let c = 0; c < C; c++) n += x[(r * W + s) * C + c] !== 0;
    left += n * F;
    if (dout) leftBack += (n + C) * counts[i * OW + j];
  }
  return pass === "forward" ? [written, left] : [2 * written, leftBack];
}
