// The page: which step of which pair is shown, what is chosen in it, and what the sliders and the mistake change.

const LAYERS = DATA.layers, L = LAYERS.length;
const stored = (id, names) => unpack($(id).textContent, names);
const WEIGHTS = stored("weights", DATA.weights);
const PARAMS = LAYERS.map((l) => (l.shape ? { w: WEIGHTS[`${l.name}.w`], b: WEIGHTS[`${l.name}.b`] } : {}));

const forwards = [...LAYERS.map((l, i) => ({ id: l.name, i })), { id: "distance" }, { id: "loss" }].map((s) => ({ ...s, pass: "forward" }));
const STEPS = [...forwards, ...[...forwards].reverse().map((s) => ({ ...s, pass: "backward" })), { id: "step", pass: "backward" }];

const state = { pair: 0, step: 0, chosen: null, chan: { in: 0, out: 0 }, what: null, mistake: "", all: false };
let panels = [], arrays = {}, outlined = {}, masks = {};

// --- Runs: the stored one of a pair, and the one with sliders and mistake ---------------------------------------

const runs = new Map();
function remembered(name, make) {
  if (!runs.has(name)) runs.set(name, make());
  return runs.get(name);
}
const base = (pair = state.pair) => remembered(`${pair}`, () => storedRun(LAYERS, stored(`pair${pair}`, DATA.pairs[pair].arrays), DATA.pairs[pair]));
function withWhat(mistake) {
  if (!state.what && !mistake) return base();
  const { dist, margin, label } = state.what || base();
  const name = JSON.stringify([state.pair, dist, margin, label, mistake]);
  for (const key of [...runs.keys()].filter((key) => key[0] === "[").slice(0, -3)) runs.delete(key);
  return remembered(name, () => recompute(LAYERS, PARAMS, base(), { dist, margin, label, mistake }));
}
const run = () => withWhat(state.mistake);
const right = () => withWhat("");

// --- The arrays of a step -----------------------------------------------------------------------------------------

/** All arrays of step s of a run, in the order of showing: key, what it is, shape, and its branches. */
function arraysOf(s, r) {
  const both = (key, text, shape, of) => ({ key, text, shape, of: { a: of(r.a), b: of(r.b) }, computed: !r.exact && key[0] === "d" });
  if (s.i === undefined) {
    const E = [LAYERS[L - 1].out[0]];
    if (s.id !== "distance") return [];
    const emb = both("emb", "the embeddings", E, (of) => of.acts[L]);
    return s.pass === "forward" ? [emb] : [emb, both("demb", "gradient of the embeddings", E, (of) => of.grads[L])];
  }
  const l = LAYERS[s.i];
  const x = both("x", "what goes in", l.in, (of) => of.acts[s.i]), out = both("out", "what comes out", l.out, (of) => of.acts[s.i + 1]);
  const weights = l.shape ? ["w", "b"].map((key) => ({
    key, text: key === "w" ? "weights" : "biases", shape: key === "w" ? l.shape : l.shape.slice(-1), of: { w: PARAMS[s.i][key] } })) : [];
  if (s.pass === "forward") return [x, ...weights, out];
  const dout = both("dout", "slope of the loss in each number of out", l.out, (of) => of.grads[s.i + 1]);
  const dx = both("dx", "slope in each number of x", l.in, (of) => of.grads[s.i]);
  const gradients = weights.map(({ key, shape }) => ({
    ...both(`d${key}`, `slope in each of the ${key === "w" ? "weights" : "biases"}: branch a + branch b = shared`, shape, (of) => of.of[s.i][key]),
  }));
  gradients.forEach((row, n) => (row.of.shared = r.shared[s.i][["w", "b"][n]]));
  return [dout, x, ...weights.slice(0, 1), dx, ...gradients];
}

const step = () => STEPS[state.step];

/** The array that a step is for. */
function mainKey(s = step()) {
  if (s.i === undefined) return s.pass === "forward" ? "emb" : "demb";
  return s.pass === "forward" ? "out" : LAYERS[s.i].shape ? "dw" : "dx";
}
const branchOf = (row, branch) => (branch in row.of ? branch : Object.keys(row.of)[0]);

function argmaxAt(branch, cell) {
  const i = step().i;
  return run()[branch].argmax[i][flat(LAYERS[i].out, cell)];
}
function valueAt(key, cell, branch) {
  if (key === "argmax") return argmaxAt(branch, cell);
  const row = arrays[key];
  return row.of[branchOf(row, branch)][flat(row.shape, cell)];
}

/** Formula, terms and the textbook's line of one cell; each term a list of [text, value], its factors. */
function explain(key, cell, branch) {
  const s = step(), r = run();
  const other = (text, value) => ({ text, value });
  if (key === "emb") {
    const [a, b] = ["a", "b"].map((of) => valueAt("emb", cell, of));
    return { formula: "dist[n] = sqrt(sum over e of (a[n, e] - b[n, e])^2)", line: DATA.lines.distance.dist,
      own: "its share of the sum of squares", terms: [[other(`(a[0, ${cell}] - b[0, ${cell}])^2`, (a - b) ** 2)]] };
  }
  if (key === "demb") {
    const [a, b] = ["a", "b"].map((of) => valueAt("emb", cell, of)), length = distanceOf(r.a.acts[L], r.b.acts[L]);
    const factors = [other("ddist", r.ddist), other(`(a[0, ${cell}] - b[0, ${cell}]) / dist`, length ? (a - b) / length : 0)];
    return { formula: branch === "b" ? "db = -da" : "da = ddist * (a - b) / dist", line: DATA.lines.distance.demb,
      terms: [branch === "b" ? [other("-1", -1), ...factors] : factors] };
  }
  const l = LAYERS[s.i];
  if (branch === "w") return null;
  if (branch === "shared") {
    const parts = ["a", "b"].map((of) => [other(`${key}_${of}[${cell.join(", ")}]`, valueAt(key, cell, of))]);
    return { formula: `${key} = ${key}_a + ${key}_b: both branches add to the same gradient`, line: DATA.lines[l.kind]?.[key], terms: parts };
  }
  const of = FORMULAS[l.kind][key];
  if (!of) return null;
  const get = (name, at) => valueAt(name, at, branch);
  const batched = (name, at) => `${name}[${(["w", "b"].includes(name) ? at : [0, ...at]).join(", ")}]`;
  const terms = [];
  for (const factors of of.terms(l, cell, get))
    terms.push(factors.map(([name, at, number]) => (at ? other(batched(name, at), get(name, at)) : other(name, number))));
  return { formula: of.formula, line: DATA.lines[l.kind]?.[key], terms };
}

/** Mark, in both branches, what a cell is made of: of each array the cells that are read, and whether any product is not 0. */
function outline(key, cell, branch) {
  outlined = {};
  if (!cell || branch === "w" || step().i === undefined) {
    for (const of of cell && key === "demb" ? ["a", "b"] : []) outlined[`emb ${of}`] = new Map([[cell[0], true]]);
    return;
  }
  const l = LAYERS[step().i], terms = FORMULAS[l.kind][key]?.terms;
  for (const of of terms ? ["a", "b"] : []) {
    const get = (name, at) => valueAt(name, at, of);
    for (const factors of terms(l, cell, get)) {
      const live = factors.every(([name, at, number]) => (at ? get(name, at) : number) !== 0);
      for (const [name, at] of factors) {
        if (!at || !arrays[name]) continue;
        const marked = (outlined[`${name} ${branchOf(arrays[name], of)}`] ||= new Map()), k = flat(arrays[name].shape, at);
        marked.set(k, live || marked.get(k) || false);
      }
    }
  }
}

// --- Showing a step ---------------------------------------------------------------------------------------------

const view = {
  chan: () => state.chan,
  chosen: (panel) => (isChosen(panel) ? flat(panel.shape, state.chosen.cell) : -1),
  marks: (panel) => ({
    outlined: outlined[`${panel.key} ${panel.branch}`],
    chosen: isChosen(panel) ? flat(panel.shape, state.chosen.cell) : -1,
    ...masks[`${panel.key} ${panel.branch}`],
  }),
  choose(panel, cell) { choose(panel.key, panel.branch, cell); },
  hover(panel, cell) {
    outline(...(cell ? [panel.key, cell, panel.branch] : state.chosen ? [state.chosen.key, state.chosen.cell, state.chosen.branch] : [null, null]));
    for (const each of panels) each.draw();
    if (cell) tell(panel.key, panel.branch, cell);
    else if (state.chosen) tell(state.chosen.key, state.chosen.branch, state.chosen.cell);
  },
  channel(chan) {
    const { key, branch, cell } = state.chosen, moved = [...cell];
    setChannels(chan);
    const side = channelOf(key, cell);
    if (side) moved[cell.length - 1] = state.chan[side];
    if (cell.length === 4) moved[2] = state.chan.in;
    choose(key, branch, moved);
  },
};

/** Which channel the last index of a cell is: of x, "in", or of out, "out"; null where it is none. */
function channelOf(key, cell) {
  const l = LAYERS[step().i];
  if (!l || (cell.length === 1 && (!l.shape || key === "x" || key === "dx"))) return null;
  return key === "x" || key === "dx" ? "in" : "out";
}

/** One line on a cell, and where to read more. */
function tell(key, branch, cell) {
  const found = explain(key, cell, branch);
  $("hover").replaceChildren(`${key}[${cell.join(", ")}] = ${full(valueAt(key, cell, branch))}`,
    found ? ` from ${plural(found.terms.length, "term")}. Framed: what is read; boxed: where no factor is 0. ` : " ",
    element("a", { href: "#cell", onclick: (event) => { event.preventDefault(); $("cell").scrollIntoView(); } }, "the sum"));
}

const isChosen = (panel) => state.chosen?.key === panel.key && (state.chosen.branch === panel.branch || panel.branch === "w") && state.chosen.cell;

/** Channels of x and of out; layers that keep channels apart have one for both. */
function setChannels(chan) {
  Object.assign(state.chan, chan);
  const l = LAYERS[step().i];
  if (!l || l.shape || l.kind === "Flatten") return;
  state.chan.in = state.chan.out = "in" in chan && !("out" in chan) ? chan.in : state.chan.out;
}

function choose(key, branch, cell) {
  const row = arrays[key];
  state.chosen = { key, branch: branchOf(row, branch), cell };
  state.all = false;
  const side = channelOf(key, cell);
  if (side) setChannels({ [side]: cell.at(-1), ...(cell.length === 4 ? { in: cell[2] } : {}) });
  outline(key, cell, branch);
  for (const panel of panels) panel.draw();
  for (const input of document.querySelectorAll("#controls input[type=number]")) input.value = state.chan[input.name];
  const form = $("controls");
  if (form.elements.array) { form.elements.array.value = `${key} ${state.chosen.branch}`; form.elements.cell.value = cell.join(","); }
  tell(key, state.chosen.branch, cell);
  showCell();
  remember();
}

function chooseLargest() {
  const row = arrays[mainKey()];
  if (!row) { state.chosen = null; showCell(); remember(); return; }
  const data = row.of.a;
  let at = 0;
  for (let k = 0; k < data.length; k++) if (Math.abs(data[k]) > Math.abs(data[at])) at = k;
  choose(row.key, "a", cellOf(row.shape, at));
}

function showStep() {
  const s = step(), l = LAYERS[s.i], r = run(), rows = arraysOf(s, r);
  arrays = Object.fromEntries(rows.map((row) => [row.key, row]));
  masks = {};
  for (const branch of ["a", "b"]) {
    const masked = (k) => !(r[branch].acts[s.i][k] > 0);
    if (l?.kind === "ReLU") for (const key of ["x", "out", "dout", "dx"]) masks[`${key} ${branch}`] = { masked };
    if (l?.kind === "MaxPool2D") {
      const selected = new Set();
      r[branch].argmax[s.i].forEach((m, k) => selected.add(under(l, k, m, l.stride)));
      for (const key of ["x", "dx"]) masks[`${key} ${branch}`] = { dots: (k) => selected.has(k) };
    }
  }
  state.chan.in = Math.min(state.chan.in, l ? (l.in[2] || 1) - 1 : 0);
  state.chan.out = Math.min(state.chan.out, l ? l.out.at(-1) - 1 : 0);
  $("title").textContent = s.id === "step" ? "step: the shared weights move" : `${s.id}, ${s.pass}`;
  $("about").textContent = aboutStep(s, l);
  $("facts").replaceChildren(...factsOf(s, l, r, rows));
  panels = [];
  $("rows").replaceChildren(...rows.map(showRow), element("p", { id: "hover", role: "status" }));
  if (!rows.length) $("rows").replaceChildren(showNumbers(s, r));
  showControls(l, rows);
  for (const panel of panels) { panel.draw(); panel.drawMaps(); }
  document.querySelectorAll("#steps button").forEach((button, n) => {
    button.toggleAttribute("aria-current", false);
    if (n === state.step) { button.setAttribute("aria-current", "step"); button.scrollIntoView({ block: "nearest", inline: "center" }); }
  });
}

function showRow(row) {
  const largest = largestOf(...Object.values(row.of));
  const head = element("header", {}, element("h3", {}, row.key), element("span", {}, row.text),
    element("span", { class: "number" }, row.shape.join(" x ")), legend(largest), row.computed ? badge() : null);
  const made = Object.entries(row.of).map(([branch, data]) =>
    makePanel({ key: row.key, branch, shape: row.shape, data, largest, layer: step().id }, view));
  panels.push(...made);
  const figures = made.map((panel) => panel.figure);
  return element("div", { class: "row" }, head, element("div", { class: made.length === 3 ? "panels three" : "panels" }, ...figures));
}

function showNumbers(s, r) {
  const table = element("table");
  let formula = "w = w - rate * dw";
  const put = (name, value) => table.append(element("tr", {}, element("td", {}, name), element("td", { class: "right" }, full(value))));
  if (s.id === "step") {
    let all = 0;
    LAYERS.forEach((l, i) => {
      for (const key of l.shape ? ["w", "b"] : []) {
        const squares = r.shared[i][key].reduce((sum, g) => sum + g * g, 0);
        all += squares;
        put(`|d${key}|^2 of ${l.name}`, squares);
      }
    });
    put("|g|^2, all together", all);
  } else {
    put("dist", r.dist);
    put("margin", r.margin);
    put("label", r.label);
    put("loss", r.loss);
    if (s.pass === "backward") put("ddist", r.ddist);
    formula = lossFormula(s, r);
  }
  const name = s.id === "step" ? "w" : s.pass === "forward" ? "loss" : "ddist";
  return element("div", { class: "row scroll" }, table, element("code", { class: "formula" }, formula), lineLink(DATA.lines[s.id][name]));
}

function lossFormula(s, r) {
  const [d, m, similar] = [full(r.dist), full(r.margin), r.label === 0];
  if (s.pass === "backward") return similar ? `ddist = dist = ${d}` : `ddist = -max(0, margin - dist) = -max(0, ${m} - ${d}) = ${full(r.ddist)}`;
  if (similar) return `loss = 1/2 dist^2 = 1/2 * ${d}^2 = ${full(r.loss)}`;
  return `loss = 1/2 max(0, margin - dist)^2 = 1/2 * max(0, ${m} - ${d})^2 = ${full(r.loss)}`;
}

const ABOUT = {
  Conv2D: ["Every output pixel is a weighted sum of the window of x it sees.",
    "Each product of forward sends dout back: times w to the pixel, times x to the weight."],
  Dense: ["Every output is a weighted sum of all inputs.", "dx = dout @ w.T, and dw is the outer product of x and dout."],
  ReLU: ["The positive part. Struck out: x is not positive.", "dout passes where x > 0. Struck out: nothing passes."],
  MaxPool2D: ["The largest pixel of each window, marked by a dot.",
    "dout goes to the pixel that was the largest, marked by a dot, and nowhere else."],
  AvgPool2D: ["The mean of each window.", "Each pixel of a window gets its share of dout."],
  GlobalAvgPool2D: ["The mean of each channel.", "Each pixel of a channel gets its share of dout."],
  Flatten: ["The same numbers in one row.", "The same numbers as an image again."],
  distance: ["How far apart the two embeddings are.",
    "The gradients of the embeddings are opposite: away from each other, or towards."],
  loss: ["A similar pair costs its distance, a dissimilar one what it lacks to the margin.",
    "How much the loss grows with the distance: ddist, a single number, starts the way back."],
  step: ["", "w = w - rate * dw, with the sum of both branches' gradients. See the panel on one step of gradient descent."],
};
const aboutStep = (s, l) => (l ? `${l.text}: ${l.in.join("x")} to ${l.out.join("x")}. ` : "") + ABOUT[l ? l.kind : s.id][s.pass === "forward" ? 0 : 1];

const share = (part, whole) => `${((100 * part) / Math.max(whole, 1)).toFixed(0)} %`;
const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
const badge = () => element("span", { class: "badge" }, "recomputed in this page, float64");
function factsOf(s, l, r, rows) {
  const facts = [];
  const zeros = (data) => share(data.reduce((n, v) => n + (v === 0), 0), data.length);
  for (const { key, of } of rows) if (of.a && key !== "emb") facts.push(`${key}: ${zeros(of.a)} zeros in a, ${zeros(of.b)} in b. `);
  if (s.id === "distance") facts.push(`dist = ${full(r.dist)}, the root of the sum of ${LAYERS[L - 1].out[0]} squares. `);
  if (!l) return facts;
  const parts = ["a", "b"].map((branch) => multiplications(l, s.pass, r[branch].acts[s.i], s.pass === "backward" ? r[branch].grads[s.i + 1] : null));
  if (parts[0]) {
    const [written, left] = [0, 1].map((n) => parts[0][n] + parts[1][n]);
    facts.push(element("b", {}, `${count(written)} multiplications in both branches, of which ${count(written - left)} `
      + `(${share(written - left, written)}) have a factor 0 and add nothing: sums here ${s.pass === "forward" ? "" : "and the compiled backward "}skip them.`));
  }
  return facts;
}

function showControls(l, rows) {
  const form = $("controls"), number = (name, text, max) =>
    element("label", {}, `${text} `, element("input", { type: "number", name, min: 0, max, value: state.chan[name], oninput: changed }));
  function changed(event) {
    const value = Math.round(event.target.value);
    if (event.target.value !== "" && value >= 0 && value <= Number(event.target.max)) view.channel({ [event.target.name]: value });
  }
  const inputs = [];
  if (l?.in.length === 3 && l.in[2] > 1) inputs.push(number("in", "channel c", l.in[2] - 1));
  if (l?.shape) inputs.push(number("out", l.kind === "Dense" ? "output e" : "filter f", l.out.at(-1) - 1));
  if (rows.length) {
    const option = (key, branch) => element("option", { value: `${key} ${branch}` }, branch === "w" ? key : `${key}, ${branch}`);
    const options = rows.flatMap((row) => Object.keys(row.of).map((branch) => option(row.key, branch)));
    inputs.push(element("label", {}, "cell ", element("select", { name: "array", "aria-label": "array" }, ...options), " ",
      element("input", { type: "text", name: "cell", "aria-label": "indices" }), " ", element("button", {}, "show")));
  }
  form.replaceChildren(...inputs);
}
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  const [key, branch] = event.target.elements.array.value.split(" ");
  tryCell(key, branch, event.target.elements.cell.value);
});

/** Choose a cell that someone has typed; or say what is wrong with it. */
function tryCell(key, branch, text) {
  const row = arrays[key];
  if (!row) return notice(`${step().id} has no array ${key} on its way ${step().pass}; it has ${Object.keys(arrays).join(", ") || "none"}.`);
  const cell = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  if (cell.length !== row.shape.length || cell.some((n, axis) => !Number.isInteger(n) || n < 0 || n >= row.shape[axis]))
    return notice(`${key} of ${step().id} has the shape ${row.shape.join(" x ")}: there is no cell ${text}.`);
  notice("");
  choose(key, branch, cell);
  for (const panel of panels) panel.drawMaps();
}
const notice = (text) => { $("notice").textContent = text; };

// --- Steps, pairs, addresses, keys ---------------------------------------------------------------------------------

function go(n) {
  if (n < 0 || n >= STEPS.length) return;
  state.step = n;
  state.chosen = null;
  notice("");
  showStep();
  chooseLargest();
  for (const panel of panels) panel.drawMaps();
}

function show(pair) {
  state.pair = pair;
  state.what = null;
  document.querySelectorAll("#pairs button").forEach((button, n) => {
    button.setAttribute("aria-current", n === pair);
    if (n === pair) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  refresh();
}

function remember() {
  const s = step(), parts = [`pair=${state.pair}`, `layer=${s.id}`, `pass=${s.pass}`];
  if (state.chosen) parts.push(`array=${state.chosen.key}`, `branch=${state.chosen.branch}`, `cell=${state.chosen.cell.join(",")}`);
  history.replaceState(null, "", `#${parts.join("&")}`);
}

/** Go where the address says, or say in one sentence why not. */
function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("pair")) {
    const pair = Number(asked.get("pair"));
    if (!DATA.pairs[pair]) return notice(`This page has the pairs 0 to ${DATA.pairs.length - 1}, not ${asked.get("pair")}.`);
    if (pair !== state.pair) show(pair);
  }
  if (!asked.has("layer")) return;
  const key = asked.get("array"), pass = asked.get("pass") || (key?.startsWith("d") ? "backward" : "forward");
  const n = STEPS.findIndex((s) => s.id === asked.get("layer") && (s.pass === pass || s.id === "step"));
  if (n < 0) {
    const known = [...new Set(STEPS.map((s) => s.id))];
    if (known.includes(asked.get("layer"))) return notice(`A pass is forward or backward, not ${pass}.`);
    return notice(`There is no layer ${asked.get("layer")} here; there are ${known.join(", ")}.`);
  }
  go(n);
  if (asked.has("cell")) tryCell(key || mainKey(), asked.get("branch") || "a", asked.get("cell"));
}

function picture(data, [H, W, C]) {
  const canvas = element("canvas", { width: W || H, height: W ? H : 1, "aria-hidden": "true" }), image = new ImageData(canvas.width, canvas.height);
  for (let k = 0; k < image.width * image.height; k++)
    image.data.set([...[0, 1, 2].map((n) => 255 * data[k * (C || 1) + (C === 3 ? n : 0)]), 255], 4 * k);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const IMAGES = 4 * Math.ceil((8 * size(LAYERS[0].in)) / 3); // characters that hold two images, which come first

function start() {
  $("pairs").append(...DATA.pairs.map((pair, n) => {
    const of = unpack($(`pair${n}`).textContent.slice(0, IMAGES), pair.arrays.slice(0, 2));
    return element("button", { onclick: () => { show(n); }, "aria-label": `${pair.title}: ${pair.of_a} and ${pair.of_b}` },
      picture(of["a.x"], LAYERS[0].in), picture(of["b.x"], LAYERS[0].in),
      element("span", {}, pair.title, element("small", {}, `${pair.of_a} and ${pair.of_b}; label ${pair.label}, dist ${brief(pair.dist)}`)));
  }));
  $("steps").append(...STEPS.map((s, n) => { // backward under forward, so that each layer has one column
    const back = s.pass === "backward", place = back ? `grid-area: 2 / ${STEPS.length - n}` : `grid-area: 1 / ${n + 2}`;
    const name = s.id === "step" || !back ? s.id : `\u2190 ${s.id}`;
    return element("li", { class: back ? "back" : "", style: place },
      element("button", { onclick: () => go(n), "aria-label": `${s.id}, ${s.pass}` }, name));
  }));
  $("previous").addEventListener("click", () => go(state.step - 1));
  $("next").addEventListener("click", () => go(state.step + 1));
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, pre")) return;
    event.preventDefault();
    go(state.step + by);
  });
  const redraw = () => { for (const panel of panels) { panel.draw(); panel.drawMaps(); } };
  inDark.addEventListener("change", () => refresh());
  window.addEventListener("beforeprint", () => { printing = true; redraw(); });
  window.addEventListener("afterprint", () => { printing = false; redraw(); });
  window.addEventListener("hashchange", follow);
  const asked = location.hash, pair = Number(new URLSearchParams(asked.slice(1)).get("pair"));
  show(DATA.pairs[pair] ? pair : 0);
  if (asked) { history.replaceState(null, "", asked); follow(); }
  document.body.dataset.ready = "yes";
}
requestAnimationFrame(() => setTimeout(start)); // the words are seen before the numbers are unpacked
