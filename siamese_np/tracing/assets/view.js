// Arrays as pictures: one slice large, all channels small, on one colour scale from blue (-) over neutral (0) to orange.

const PALETTES = {
  light: { minus: [[247, 247, 247], [103, 169, 220], [5, 48, 120]], plus: [[247, 247, 247], [245, 163, 80], [127, 50, 0]] },
  dark: { minus: [[27, 30, 35], [45, 110, 185], [150, 210, 255]], plus: [[27, 30, 35], [190, 100, 25], [255, 215, 150]] },
};
const FRAME = "#e0007a";
const inDark = window.matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const dark = () => inDark.matches && !printing;

const SHADES = 256;
const tables = {}; // all shades of a palette, from the most negative to the most positive

function shades() {
  const name = dark() ? "dark" : "light";
  return (tables[name] ||= Array.from({ length: 2 * SHADES + 1 }, (_, n) => {
    const stops = PALETTES[name][n < SHADES ? "minus" : "plus"], t = (2 * Math.abs(n - SHADES)) / SHADES, k = t <= 1 ? 0 : 1;
    return stops[k].map((from, c) => from + (stops[k + 1][c] - from) * (t - k));
  }));
}

/** Colour one pixel for v on a scale to +-largest, by the root of its share, so that small gradients are seen. */
function paint(image, at, v, largest, table = shades()) {
  const share = largest > 0 ? Math.sqrt(Math.min(1, Math.abs(v) / largest)) : 0;
  const shade = table[SHADES + Math.sign(v) * Math.round(share * SHADES) || SHADES];
  for (let c = 0; c < 3; c++) image.data[4 * at + c] = shade[c];
  image.data[4 * at + 3] = 255;
}

const largestOf = (...arrays) => arrays.reduce((m, array) => array.reduce((n, v) => Math.max(n, Math.abs(v)), m), 0);

/** The part of an array that is shown: rows and columns, and the flat position of each; chan says which channels. */
function slice(key, shape, chan) {
  const inner = key === "x" || key === "dx" ? chan.in : chan.out;
  if (shape.length === 4) {
    const [KH, KW, C, F] = shape;
    return { rows: KH, cols: KW, at: (r, c) => ((r * KW + c) * C + chan.in) * F + chan.out };
  }
  if (shape.length === 3) return { rows: shape[0], cols: shape[1], at: (r, c) => (r * shape[1] + c) * shape[2] + inner };
  const [length, E] = [shape[0], shape[1] || 1], cols = Math.ceil(Math.sqrt(length));
  return {
    rows: Math.ceil(length / cols), cols,
    at: (r, c) => (r * cols + c < length ? (r * cols + c) * E + (shape[1] ? chan.out : 0) : -1),
  };
}

/** Channels that one can choose from: small pictures of all of them, `maps` rows of `across`. */
function mapsOf(key, shape) {
  if (shape.length === 4) return { tiles: shape[2] * shape[3], across: shape[3], set: (n) => ({ in: Math.floor(n / shape[3]), out: n % shape[3] }) };
  if (shape.length !== 3 || shape[2] === 1) return null;
  const side = key === "x" || key === "dx" ? "in" : "out";
  return { tiles: shape[2], across: Math.min(8, shape[2]), set: (n) => ({ [side]: n }) };
}

/** One array of one branch as a figure. `view` tells what is chosen and marked: chan, marks(panel), choose, hover. */
function makePanel(array, view) {
  const { key, branch, shape, data, layer } = array;
  const { rows, cols } = slice(key, shape, view.chan());
  const scale = Math.max(2, Math.min(36, Math.floor(336 / cols)));
  const canvas = element("canvas", { tabindex: 0, role: "img", width: cols * scale, height: rows * scale });
  const pixels = element("canvas", { width: cols, height: rows });
  const caption = element("figcaption");
  canvas.style.maxWidth = `min(100%, ${canvas.width}px)`;
  const figure = element("figure", {}, caption, canvas);
  const panel = { ...array, figure, canvas, largest: array.largest };
  const maps = mapsOf(key, shape);
  const small = maps && element("canvas", { class: "maps", role: "img", "aria-label": `all channels of ${key}, branch ${branch}` });
  if (small) figure.append(small);

  const cellUnder = (event) => {
    const box = canvas.getBoundingClientRect();
    const r = Math.floor(((event.clientY - box.top) / box.height) * rows), c = Math.floor(((event.clientX - box.left) / box.width) * cols);
    if (!inside([r, c], [rows, cols])) return null;
    const at = slice(key, shape, view.chan()).at(r, c);
    return at < 0 ? null : cellOf(shape, at);
  };
  canvas.addEventListener("click", (event) => { const cell = cellUnder(event); if (cell) view.choose(panel, cell); });
  canvas.addEventListener("mousemove", (event) => view.hover(panel, cellUnder(event)));
  canvas.addEventListener("mouseleave", () => view.hover(panel, null));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!by || !event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    const shown = slice(key, shape, view.chan()), chosen = view.chosen(panel);
    let [r, c] = [0, 0];
    if (chosen >= 0) for (const [y, x] of places([rows, cols])) if (shown.at(y, x) === chosen) [r, c] = [y + by[0], x + by[1]];
    if (inside([r, c], [rows, cols]) && shown.at(r, c) >= 0) view.choose(panel, cellOf(shape, shown.at(r, c)));
  });

  panel.draw = () => {
    const { at } = slice(key, shape, view.chan()), image = new ImageData(cols, rows), context = canvas.getContext("2d");
    const table = shades();
    for (const [r, c] of places([rows, cols])) if (at(r, c) >= 0) paint(image, r * cols + c, data[at(r, c)], panel.largest, table);
    pixels.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(pixels, 0, 0, canvas.width, canvas.height);
    const { dots, masked, outlined, chosen } = view.marks(panel), ink = dark() ? "#fff" : "#000";
    for (const [r, c] of places([rows, cols])) {
      const k = at(r, c), x = c * scale, y = r * scale;
      if (k < 0) continue;
      if (masked && masked(k)) line(context, [x + scale * 0.2, y + scale * 0.8], [x + scale * 0.8, y + scale * 0.2], dark() ? "#777" : "#999", 1);
      if (dots && dots(k)) {
        context.fillStyle = ink;
        context.fillRect(x + scale * 0.35, y + scale * 0.35, Math.max(2, scale * 0.3), Math.max(2, scale * 0.3));
      }
      if (!outlined || !outlined.has(k)) continue;
      if (outlined.get(k)) box(context, x, y, scale, FRAME, Math.max(1, scale / 10));
      for (const [dy, dx, from, to] of [[-1, 0, [x, y], [x + scale, y]], [1, 0, [x, y + scale], [x + scale, y + scale]],
        [0, -1, [x, y], [x, y + scale]], [0, 1, [x + scale, y], [x + scale, y + scale]]])
        if (!inside([r + dy, c + dx], [rows, cols]) || !outlined.has(at(r + dy, c + dx))) line(context, from, to, FRAME, 3);
    }
    for (const [r, c] of places([rows, cols])) {
      const x = c * scale, y = r * scale;
      if (at(r, c) !== chosen || chosen < 0) continue;
      box(context, x - 1, y - 1, scale + 2, dark() ? "#000" : "#fff", 4);
      box(context, x - 1, y - 1, scale + 2, ink, 2);
    }
    markMap();
    caption.textContent = captionOf(panel, view.chan());
    canvas.setAttribute("aria-label", `${key} of ${layer}, branch ${branch}, ${shape.join(" by ")}, Shift and arrow keys choose a cell`);
  };
  let image = null; // of all channels
  const [high, wide] = [shape[0] + 1, shape[1] + 1];
  const markMap = () => {
    if (!image) return;
    const context = small.getContext("2d"), chosen = view.chan();
    context.putImageData(image, 0, 0);
    for (let n = 0; n < maps.tiles; n++) {
      if (!Object.entries(maps.set(n)).every(([side, channel]) => chosen[side] === channel)) continue;
      context.strokeStyle = dark() ? "#fff" : "#000";
      context.strokeRect((n % maps.across) * wide - 0.5, Math.floor(n / maps.across) * high - 0.5, wide, high);
    }
  };
  panel.drawMaps = () => {
    if (!small) return;
    const table = shades();
    image = new ImageData(maps.across * wide, Math.ceil(maps.tiles / maps.across) * high);
    for (let n = 0; n < maps.tiles; n++) {
      const { at } = slice(key, shape, { ...view.chan(), ...maps.set(n) });
      const left = (n % maps.across) * wide, top = Math.floor(n / maps.across) * high;
      for (let r = 0; r < shape[0]; r++) for (let c = 0; c < shape[1]; c++)
        paint(image, (top + r) * image.width + left + c, data[at(r, c)], panel.largest, table);
    }
    [small.width, small.height] = [image.width, image.height];
    small.style.width = `${Math.min(336, image.width * 3)}px`;
    markMap();
  };
  if (small) small.addEventListener("click", (event) => {
    const area = small.getBoundingClientRect(), down = Math.ceil(maps.tiles / maps.across);
    const r = Math.floor(((event.clientY - area.top) / area.height) * down), n = r * maps.across + Math.floor(((event.clientX - area.left) / area.width) * maps.across);
    if (n >= 0 && n < maps.tiles) view.channel(maps.set(n));
  });
  return panel;
}

function captionOf({ key, branch, shape, layer }, chan) {
  const where = branch === "w" ? "one for both branches" : branch === "shared" ? "shared: a + b" : `branch ${branch}`;
  if (shape.length === 4) return `${where}, c = ${chan.in}, f = ${chan.out}`;
  if (shape.length === 3) return `${where}, channel ${key === "x" || key === "dx" ? chan.in : chan.out} of ${shape[2]}`;
  return shape.length === 2 ? `${where}, column e = ${chan.out}` : where;
}

function line(context, [x, y], [to, down], style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(to, down);
  context.stroke();
}

function box(context, x, y, side, style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.strokeRect(x + width / 2, y + width / 2, side - width, side - width);
}

/** The colour scale with its numbers. */
function legend(largest) {
  const canvas = element("canvas", { width: 101, height: 1, role: "img", "aria-label": "colour scale, blue below 0, orange above" });
  const image = new ImageData(101, 1);
  for (let k = 0; k <= 100; k++) paint(image, k, Math.sign(k - 50) * ((k - 50) / 50) ** 2, 1);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return element("span", { class: "legend" }, largest ? `-${brief(largest)}` : "0", canvas, brief(largest));
}

const brief = (v) => (v === 0 ? "0" : Number(v.toPrecision(3)).toString());
const full = (v) => (v === 0 ? "0" : Number(v.toPrecision(8)).toString());
