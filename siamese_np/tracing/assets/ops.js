// The textbook's operations for one image, in float64. Arrays are flat; a layer l has the shapes l.in and l.out.

const OPS = {
  Conv2D: {
    forward(l, x, { w, b }) {
      const [H, W, C] = l.in, [OH, OW, F] = l.out, [KH, KW] = l.window;
      const out = new Float64Array(OH * OW * F);
      for (let i = 0; i < OH; i++) for (let j = 0; j < OW; j++) {
        const o = (i * OW + j) * F;
        for (let f = 0; f < F; f++) out[o + f] = b[f];
        for (let p = 0; p < KH; p++) for (let q = 0; q < KW; q++) {
          const r = i * l.stride[0] + p - l.pad[0], s = j * l.stride[1] + q - l.pad[1];
          if (r < 0 || r >= H || s < 0 || s >= W) continue;
          for (let c = 0; c < C; c++) {
            const v = x[(r * W + s) * C + c], k = ((p * KW + q) * C + c) * F;
            if (v !== 0) for (let f = 0; f < F; f++) out[o + f] += v * w[k + f];
          }
        }
      }
      return out;
    },
    backward(l, dout, { x, w }, stride) {
      const [H, W, C] = l.in, [OH, OW, F] = l.out, [KH, KW] = l.window;
      const dx = new Float64Array(H * W * C), dw = new Float64Array(KH * KW * C * F), db = new Float64Array(F);
      for (let i = 0; i < OH; i++) for (let j = 0; j < OW; j++) {
        const o = (i * OW + j) * F, some = [];
        for (let f = 0; f < F; f++) if (dout[o + f] !== 0) { some.push(f); db[f] += dout[o + f]; }
        if (!some.length) continue;
        for (let p = 0; p < KH; p++) for (let q = 0; q < KW; q++) {
          const r = i * stride[0] + p - l.pad[0], s = j * stride[1] + q - l.pad[1];
          if (r < 0 || r >= H || s < 0 || s >= W) continue;
          for (let c = 0; c < C; c++) {
            const at = (r * W + s) * C + c, k = ((p * KW + q) * C + c) * F;
            for (const f of some) { dx[at] += dout[o + f] * w[k + f]; dw[k + f] += x[at] * dout[o + f]; }
          }
        }
      }
      return { dx, dw, db };
    },
  },
  Dense: {
    forward(l, x, { w, b }) {
      const [D] = l.in, [E] = l.out, out = Float64Array.from(b);
      for (let d = 0; d < D; d++) if (x[d] !== 0) for (let e = 0; e < E; e++) out[e] += x[d] * w[d * E + e];
      return out;
    },
    backward(l, dout, { x, w }) {
      const [D] = l.in, [E] = l.out, dx = new Float64Array(D), dw = new Float64Array(D * E);
      for (let d = 0; d < D; d++) for (let e = 0; e < E; e++) {
        dx[d] += dout[e] * w[d * E + e];
        dw[d * E + e] = x[d] * dout[e];
      }
      return { dx, dw, db: Float64Array.from(dout) };
    },
  },
  ReLU: {
    forward: (l, x) => Float64Array.from(x, (v) => (v > 0 ? v : 0)),
    backward: (l, dout, { out }) => ({ dx: Float64Array.from(dout, (d, k) => (out[k] > 0 ? d : 0)) }),
  },
  MaxPool2D: {
    forward(l, x) {
      const argmax = argmaxOf(l, x), out = new Float64Array(argmax.length);
      for (let k = 0; k < out.length; k++) out[k] = x[under(l, k, argmax[k], l.stride)];
      return out;
    },
    backward(l, dout, { argmax }, stride) {
      const dx = new Float64Array(size(l.in));
      for (let k = 0; k < dout.length; k++) dx[under(l, k, argmax[k], stride)] += dout[k];
      return { dx };
    },
  },
  AvgPool2D: {
    forward(l, x) {
      const out = new Float64Array(size(l.out)), n = l.window[0] * l.window[1];
      for (let k = 0; k < out.length; k++) for (let m = 0; m < n; m++) out[k] += x[under(l, k, m, l.stride)] / n;
      return out;
    },
    backward(l, dout) {
      const dx = new Float64Array(size(l.in)), n = l.window[0] * l.window[1];
      for (let k = 0; k < dout.length; k++) for (let m = 0; m < n; m++) dx[under(l, k, m, l.stride)] += dout[k] / n;
      return { dx };
    },
  },
  Flatten: { forward: (l, x) => x, backward: (l, dout) => ({ dx: dout }) },
};
OPS.GlobalAvgPool2D = OPS.AvgPool2D;

const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** The pixel of x under entry m of the window of output k; a global mean has one window. */
function under(l, k, m, stride) {
  const [, W, C] = l.in, OW = l.out.length === 3 ? l.out[1] : 1;
  const c = k % C, j = Math.floor(k / C) % OW, i = Math.floor(k / C / OW);
  return ((i * stride[0] + Math.floor(m / l.window[1])) * W + j * stride[1] + (m % l.window[1])) * C + c;
}

function argmaxOf(l, x) {
  const argmax = new Uint16Array(size(l.out));
  for (let k = 0; k < argmax.length; k++)
    for (let m = 1; m < l.window[0] * l.window[1]; m++)
      if (x[under(l, k, m, l.stride)] > x[under(l, k, argmax[k], l.stride)]) argmax[k] = m;
  return argmax;
}

function distanceOf(a, b) {
  let sum = 0;
  for (let e = 0; e < a.length; e++) sum += (a[e] - b[e]) ** 2;
  return Math.sqrt(sum);
}

const hinge = (dist, margin) => Math.max(0, margin - dist);
const lossOf = (dist, label, margin) => (label === 0 ? dist ** 2 : hinge(dist, margin) ** 2) / 2;
const slopeOf = (dist, label, margin) => (label === 0 ? dist : -hinge(dist, margin));

// --- A pair's way to the loss and back ----------------------------------------------------------------------

/** What goes into each layer and comes out of the last, again in float64: what differences are taken from. */
function precise(layers, params, run) {
  const acts = (x) => layers.reduce((all, l, i) => [...all, OPS[l.kind].forward(l, all[i], params[i])], [x]);
  run.precise ||= { a: acts(run.a.acts[0]), b: acts(run.b.acts[0]) };
  const { a, b } = run.precise;
  return { a, b, shift: run.dist - distanceOf(a[layers.length], b[layers.length]) }; // by what the slider moves the distance
}

/** The embedding of x, an input of layer `first`, with the parameters of each layer in `params`. */
function embed(layers, params, x, first = 0) {
  for (let i = first; i < layers.length; i++) x = OPS[layers[i].kind].forward(layers[i], x, params[i]);
  return x;
}

/** Gradients of one branch: grads[i] of the input of layer i, of[i] those of its parameters. */
function branchBackward(layers, params, acts, argmax, demb, mistake) {
  const grads = [], of = [];
  grads[layers.length] = demb;
  for (let i = layers.length - 1; i >= 0; i--) {
    const l = layers[i], stride = mistake === "stride" ? [1, 1] : l.stride;
    const cache = { x: acts[i], out: acts[i + 1], argmax: argmax[i], ...params[i] };
    const found = mistake === "mask" && l.kind === "ReLU" ? { dx: grads[i + 1] } : OPS[l.kind].backward(l, grads[i + 1], cache, stride);
    grads[i] = found.dx;
    of[i] = found.dw ? { w: found.dw, b: found.db } : {};
  }
  return { grads, of };
}

/** The backward pass of `base` again, with what the sliders say and a planted mistake. */
function recompute(layers, params, base, { dist, margin, label, mistake }) {
  const ddist = slopeOf(dist, label, margin), a = base.a.acts[layers.length], b = base.b.acts[layers.length];
  const length = distanceOf(a, b) || 1;
  const demb = Float64Array.from(a, (v, e) => (ddist * (v - b[e])) / length);
  const run = { ...base, exact: false, dist, margin, label, ddist, loss: lossOf(dist, label, margin), mistake };
  for (const branch of ["a", "b"]) {
    const own = branch === "a" || mistake === "sign" ? demb : demb.map((v) => 0 - v);
    run[branch] = { ...base[branch], ...branchBackward(layers, params, base[branch].acts, base[branch].argmax, own, mistake) };
  }
  run.shared = layers.map((l, i) => {
    const sum = (key) => run.a.of[i][key].map((v, k) => {
      if (mistake === "branch") return run.b.of[i][key][k];
      return (v + run.b.of[i][key][k]) / (mistake === "mean" ? 2 : 1);
    });
    return l.params ? { w: sum("w"), b: sum("b") } : {};
  });
  return run;
}

/** The loss with one number moved by `by`: of a parameter in the given branches, or of the input of layer i in one. */
function lossMoved(layers, params, run, { i, key, at, branches }, by) {
  const emb = {}, acts = precise(layers, params, run);
  for (const branch of ["a", "b"]) {
    emb[branch] = acts[branch][layers.length];
    if (!branches.includes(branch)) continue;
    const moved = Float64Array.from(key === "x" ? acts[branch][i] : params[i][key]);
    moved[at] += by;
    if (key === "x") emb[branch] = embed(layers, params, moved, i);
    else emb[branch] = embed(layers, Object.assign([...params], { [i]: { ...params[i], [key]: moved } }), acts[branch][i], i);
  }
  return lossOf(distanceOf(emb.a, emb.b) + acts.shift, run.label, run.margin);
}

const STEP = 1e-5;

/** Slopes of the loss by differences: from the left, from the right, and central. */
function numeric(layers, params, run, moved) {
  const here = lossMoved(layers, params, run, moved, 0);
  const left = lossMoved(layers, params, run, moved, -STEP), right = lossMoved(layers, params, run, moved, STEP);
  return { left: (here - left) / STEP, right: (right - here) / STEP, central: (right - left) / 2 / STEP, before: left, after: right };
}

/** One step of gradient descent on all parameters: the loss after it, and the squared length of the gradient. */
function descend(layers, params, run, rate) {
  let squares = 0;
  const stepped = layers.map((l, i) => {
    const next = {};
    for (const key of l.params ? ["w", "b"] : []) {
      const g = run.shared[i][key];
      for (let k = 0; k < g.length; k++) squares += g[k] ** 2;
      next[key] = Float64Array.from(params[i][key], (v, k) => v - rate * g[k]);
    }
    return next;
  });
  const dist = distanceOf(embed(layers, stepped, run.a.acts[0]), embed(layers, stepped, run.b.acts[0]));
  return { squares, loss: lossOf(dist + precise(layers, params, run).shift, run.label, run.margin) };
}

// --- What was stored ------------------------------------------------------------------------------------------

/** The numbers of `blob`, base64 of little-endian float32, by name. */
function unpack(blob, names) {
  const text = atob(blob), bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  const all = new Float32Array(bytes.buffer, 0, bytes.length >> 2), found = {};
  let at = 0;
  for (const [name, length] of names) found[name] = all.subarray(at, (at += length));
  return found;
}

/** A run of the textbook from its stored arrays. What only copies numbers (ReLU, pooling) is copied here, and float32
    sums of two numbers and products of two are taken here, which gives the textbook's bits. */
function storedRun(layers, stored, pair) {
  const run = { exact: true, dist: pair.dist, margin: pair.margin, label: pair.label, ddist: pair.ddist, loss: pair.loss };
  const L = layers.length;
  for (const branch of ["a", "b"]) {
    const acts = [stored[`${branch}.x`]], argmax = [], grads = [], of = [];
    layers.forEach((l, i) => {
      acts[i + 1] = stored[`${branch}.${l.name}.out`] || OPS[l.kind].forward(l, acts[i]);
      if (l.kind === "MaxPool2D") argmax[i] = argmaxOf(l, acts[i]);
    });
    grads[L] = stored[`${branch}.demb`];
    for (let i = L - 1; i >= 0; i--) {
      const l = layers[i], cache = { x: acts[i], out: acts[i + 1], argmax: argmax[i] };
      grads[i] = stored[`${branch}.${l.name}.dx`] || OPS[l.kind].backward(l, grads[i + 1], cache, l.stride).dx;
      of[i] = {};
      if (l.kind === "Dense") of[i] = { w: outer(acts[i], grads[i + 1]), b: grads[i + 1] };
      if (l.kind === "Conv2D") of[i] = { w: stored[`${branch}.${l.name}.dw`], b: stored[`${branch}.${l.name}.db`] };
    }
    run[branch] = { acts, argmax, grads, of };
  }
  const sum = (p, q) => Float32Array.from(p, (v, k) => v + q[k]);
  run.shared = layers.map((l, i) => l.params
    ? { w: sum(run.a.of[i].w, run.b.of[i].w), b: sum(run.a.of[i].b, run.b.of[i].b) } : {});
  return run;
}

function outer(x, dout) {
  const dw = new Float32Array(x.length * dout.length);
  for (let d = 0, k = 0; d < x.length; d++) for (let e = 0; e < dout.length; e++) dw[k++] = x[d] * dout[e];
  return dw;
}
