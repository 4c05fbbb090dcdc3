// The map: every picture's embedding as a point; one is shown with its neighbours.

const canvas = $("points"), form = $("mapcontrols"), NEAR = DATA.near[0].length;
const view = { zoom: 1, x: 0, y: 0 };
let chosen = -1, pinned = false, size = [1, 1];
const order = Array.from({ length: N }, (_, i) => i).sort((a, b) => wrong(a) - wrong(b) || ((a * 2654435761) % 4294967296) - ((b * 2654435761) % 4294967296));

const places = () => DATA.maps[form.kind.value];
const listed = (i) => (!form.wrong.checked || wrong(i)) && (form.class.value === "" || POINTS.class[i] === Number(form.class.value));

function bounds() {
  const of = places(), box = [0, 1].map((axis) => of.reduce(([a, b], p) => [Math.min(a, p[axis]), Math.max(b, p[axis])], [Infinity, -Infinity]));
  const scale = Math.min(...box.map(([a, b], axis) => (size[axis] - 40) / (b - a || 1)));
  return { middle: box.map(([a, b]) => (a + b) / 2), scale };
}

/** From a point of the map to pixels of the canvas. */
function placer() {
  const { middle, scale } = bounds(), k = scale * view.zoom;
  return ([x, y]) => [size[0] / 2 + (x - middle[0]) * k + view.x, size[1] / 2 - (y - middle[1]) * k + view.y];
}
const placeOf = (i) => placer()(places()[i]);

function draw() {
  const ratio = window.devicePixelRatio || 1;
  size = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = size.map((length) => Math.round(length * ratio));
  const pen = canvas.getContext("2d"), at = placer(), colours = Array.from({ length: 10 }, (_, k) => css(`--c${k}`));
  const ink = css("--ink"), radius = (N < 400 ? 4.5 : 3) * Math.min(1.6, view.zoom ** 0.3), found = DATA.classes.map(() => []);
  pen.scale(ratio, ratio);
  const dot = (x, y, r) => { pen.beginPath(); pen.arc(x, y, r, 0, 7); };
  for (const i of order) {
    const [x, y] = at(places()[i]), shown = listed(i);
    pen.globalAlpha = shown ? 0.75 : 0.08;
    pen.fillStyle = colours[POINTS.class[i] % 10];
    dot(x, y, radius);
    pen.fill();
    if (!shown) continue;
    found[POINTS.class[i]].push([x, y]);
    if (!wrong(i)) continue;
    pen.globalAlpha = 1;
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5;
    dot(x, y, radius + 2.5);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.font = `bold ${found.length > 15 ? 11 : 15}px system-ui, sans-serif`;
  [pen.textAlign, pen.textBaseline, pen.lineJoin] = ["center", "middle", "round"];
  const named = found.filter((some) => some.length).length <= 40; // more would hide the points
  found.forEach((some, c) => {
    if (!some.length || !named) return;
    const [x, y] = [0, 1].map((axis) => some.map((p) => p[axis]).sort((a, b) => a - b)[some.length >> 1]);
    [pen.lineWidth, pen.strokeStyle, pen.fillStyle] = [4, css("--halo"), ink];
    pen.strokeText(className(c), x, y);
    pen.fillText(className(c), x, y);
  });
  if (chosen < 0) return;
  [pen.lineWidth, pen.strokeStyle] = [3, css("--accent")];
  dot(...at(places()[chosen]), radius + 6);
  pen.stroke();
}

/** Show test image i with its neighbours; a pinned one stays when the pointer moves on. */
function choose(i, pin = false) {
  pinned = pin && i >= 0;
  if (i !== chosen) {
    chosen = i;
    $("detail").replaceChildren(...(i < 0 ? [] : details(i)));
  }
  draw();
}

function details(i) {
  const vote = `the ${NEAR === 1 ? "neighbour says" : `${NEAR} neighbours say`} ${className(POINTS.knn[i])}`;
  const near = DATA.near[i].map((k, n) => {
    const c = className(DATA.gallery.class[k]), text = `training image ${DATA.gallery.number[k]}, class ${c}, distance ${DATA.near_dist[i][n]}`;
    return element("figure", { title: text }, picture(N + k, text), element("figcaption", {}, `class ${c}`, element("br"), DATA.near_dist[i][n].toFixed(3)));
  });
  return [
    element("div", { class: "verdict" }, picture(i, testName(i)), element("div", {},
      element("h3", {}, `Test image ${POINTS.number[i]}`), element("p", {}, `class ${className(POINTS.class[i])}`),
      element("p", { class: wrong(i) ? "wrong" : "good" }, `${vote}: ${wrong(i) ? "wrong" : "right"}`))),
    element("h3", {}, "Nearest training images, and their distance"), element("div", { class: "gallery", id: "near" }, ...near)];
}

/** The point that is listed and nearest to a pixel, within `reach` pixels, or -1. */
function pick(x, y, reach = 14) {
  const at = placer();
  let best = -1, least = reach;
  for (let i = 0; i < N; i++) {
    const [u, v] = at(places()[i]), far = Math.hypot(u - x, v - y);
    if (far <= least && listed(i)) [best, least] = [i, far];
  }
  return best;
}

/** The nearest point that lies in the direction (dx, dy) of the chosen one. */
function step(dx, dy) {
  if (chosen < 0 || !listed(chosen)) return choose(pick(size[0] / 2, size[1] / 2, Infinity), true);
  const at = placer(), [x, y] = at(places()[chosen]);
  let best = chosen, least = Infinity;
  for (let i = 0; i < N; i++) {
    if (i === chosen || !listed(i)) continue;
    const [u, v] = at(places()[i]), along = (u - x) * dx + (v - y) * dy, beside = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
    if (along > 0 && beside <= along && along + beside < least) [best, least] = [i, along + beside];
  }
  choose(best, true);
  const [u, v] = placeOf(best);
  if (u < 0 || v < 0 || u > size[0] || v > size[1]) move(size[0] / 2 - u, size[1] / 2 - v);
}

function move(dx, dy) {
  [view.x, view.y] = [view.x + dx, view.y + dy];
  draw();
}
function zoom(factor, x = size[0] / 2, y = size[1] / 2) {
  const to = Math.min(60, Math.max(1, view.zoom * factor)), by = to / view.zoom;
  view.x = (view.x - x + size[0] / 2) * by + x - size[0] / 2;
  view.y = (view.y - y + size[1] / 2) * by + y - size[1] / 2;
  if (to === 1) view.x = view.y = 0;
  view.zoom = to;
  canvas.style.touchAction = to > 1 ? "none" : "pan-y";
  draw();
}

let pressed = null, moved = false;
canvas.addEventListener("pointerdown", (event) => {
  pressed = [event.offsetX, event.offsetY];
  moved = false;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = [event.offsetX, event.offsetY];
  if (pressed && (moved || Math.hypot(x - pressed[0], y - pressed[1]) > 4)) {
    move(x - pressed[0], y - pressed[1]);
    [pressed, moved] = [[x, y], true];
  } else if (!pressed && !pinned) {
    const i = pick(x, y);
    if (i >= 0) choose(i);
  }
});
canvas.addEventListener("pointerup", (event) => {
  const i = moved ? -1 : pick(event.offsetX, event.offsetY, event.pointerType === "touch" ? 28 : 14);
  if (i >= 0) choose(i, true);
  else if (!moved) pinned = false;
  pressed = null;
});
canvas.addEventListener("pointercancel", () => { pressed = null; });
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 200), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("focus", () => { if (chosen < 0 && canvas.matches(":focus-visible")) step(0, 0); });
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (arrow && event.shiftKey) move(-60 * arrow[0], -60 * arrow[1]);
  else if (arrow) step(...arrow);
  else if ("+=".includes(event.key)) zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") zoom(0);
  else return;
  event.preventDefault();
});

DATA.classes.forEach((name, c) => { if (POINTS.class.includes(c)) form.class.append(element("option", { value: c }, name)); });
form.addEventListener("input", () => { if (!pinned && chosen >= 0 && !listed(chosen)) choose(-1); describe(); draw(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.in.addEventListener("click", () => zoom(1.5));
form.out.addEventListener("click", () => zoom(1 / 1.5));
form.whole.addEventListener("click", () => zoom(0));
form.kind.options[1].disabled = !DATA.maps.tsne;

function describe() {
  const [a, b] = DATA.explained.map((share) => Math.round(100 * share)), seen = POINTS.number.filter((_, i) => listed(i)).length;
  const text = form.kind.value === "pca"
    ? `PCA: the two directions in which the embeddings vary most, with ${a} and ${b} percent of the variance.`
    : "t-SNE: neighbours stay together; distances between groups mean little.";
  const missing = DATA.maps.tsne ? "" : " A t-SNE map needs scikit-learn where the run is made.";
  $("maptext").textContent = `${text}${missing} ${count(seen)} images.`;
  canvas.setAttribute("aria-label", `Map of ${count(seen)} embeddings`);
}
describe();
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
for (const [event, on] of [["beforeprint", true], ["afterprint", false]])
  window.addEventListener(event, () => { document.documentElement.classList.toggle("printing", on); draw(); });
