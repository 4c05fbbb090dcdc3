// The threshold: how many pairs of each kind lie below it, the two histograms, and pairs on either side.

const [SIMILAR, DISSIMILAR] = DATA.distances.map((text) =>
  new Float64Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer));
const FURTHEST = Math.max(SIMILAR[SIMILAR.length - 1], DISSIMILAR[DISSIMILAR.length - 1], DATA.margin) * 1.02, BINS = 80, EXAMPLES = 12;

/** How many of some ascending distances are below t. */
function below(distances, t) {
  let [low, high] = [0, distances.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (distances[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

function histogram() {
  const edges = Array.from({ length: BINS + 1 }, (_, k) => (k * FURTHEST) / BINS);
  const shares = [SIMILAR, DISSIMILAR].map((of) => edges.slice(1).map((edge, k) => (below(of, edge) - below(of, edges[k])) / of.length));
  const most = Math.max(...shares.flat());
  const write = (root) => `${+(100 * root * root).toPrecision(2)} %`;
  const { drawn, x, y } = frame("Distances of similar and of dissimilar pairs", { low: 0, high: FURTHEST, text: "distance" }, { low: 0, high: Math.sqrt(most), write });
  shares.forEach((some, kind) => {
    const path = some.map((share, k) => `V${y(Math.sqrt(share)).toFixed(1)}H${x(edges[k + 1]).toFixed(1)}`).join("");
    drawn.append(svg("path", { d: `M${x(0)} ${y(0)}${path}V${y(0)}Z`, style: `fill:var(--${["similar", "dissimilar"][kind]});fill-opacity:.55` }));
  });
  const cut = drawn.appendChild(svg("line", { class: "cut", y1: 8, y2: y(0) }));
  const legend = ["similar", "dissimilar"].map((name) => element("li", {},
    svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, svg("rect", { width: 26, height: 10, style: `fill:var(--${name})` })), `${name} pairs`));
  $("histogram").append(element("figure", { class: "chart" }, element("figcaption", {}, "Share of pairs at each distance, on a square-root scale"),
    drawn, element("ul", { class: "legend" }, ...legend)));
  return (t) => { for (const end of ["x1", "x2"]) cut.setAttribute(end, x(Math.min(t, FURTHEST))); };
}

function roc() {
  const D = DISSIMILAR.length, counts = [...new Set(Array.from({ length: 120 }, (_, k) => Math.round(D ** (k / 119))))];
  const tar = counts.map((n) => below(SIMILAR, n < D ? DISSIMILAR[n] : Infinity) / SIMILAR.length);
  const chart = curves("True accepts against false accepts (ROC)", counts.map((n) => n / D), [{ name: "", values: tar }],
    { log: true, low: 1 / D, high: 1, text: "false accept rate" }, { high: 1, write: tick });
  chart.drawn.querySelectorAll("circle").forEach((dot) => dot.remove());
  const dot = chart.drawn.appendChild(svg("circle", { r: 5, style: "fill:var(--accent)" }));
  $("roc").append(chart.figure);
  return (far, share) => {
    dot.setAttribute("cx", chart.x(Math.max(far, 1 / D)));
    dot.setAttribute("cy", chart.y(Math.max(share, Math.min(...tar))));
  };
}

/** Pairs of one verdict: wrong ones first, the worst of them first; then right ones, those nearest to the threshold. */
function examples(id, t, accepted) {
  const isWrong = ([, , label]) => (label === 1) === accepted;
  const some = DATA.pairs.filter((pair) => pair[3] < t === accepted).sort((p, q) =>
    isWrong(q) - isWrong(p) || (isWrong(p) ? Math.abs(q[3] - t) - Math.abs(p[3] - t) : Math.abs(p[3] - t) - Math.abs(q[3] - t)));
  const figures = some.slice(0, EXAMPLES).map((pair) => {
    const [a, b, , dist] = pair;
    const text = `${className(POINTS.class[a])} and ${className(POINTS.class[b])}`;
    return element("figure", {}, element("div", { class: "pair" }, testButton(a), testButton(b)),
      element("figcaption", {}, element("span", { class: isWrong(pair) ? "wrong" : "good" }, text), element("br"), dist.toFixed(3)));
  });
  $(id).replaceChildren(...(figures.length ? figures : [element("p", { class: "soft" }, "No pair of the pictures here.")]));
}

const cutForm = $("cut"), moveCut = histogram(), moveRoc = roc();
let late = 0;

function setThreshold(t) {
  [cutForm.slide.value, cutForm.number.value] = [t, +t.toPrecision(6)];
  const [ta, fa] = [below(SIMILAR, t), below(DISSIMILAR, t)], [S, D] = [SIMILAR.length, DISSIMILAR.length];
  Object.entries({ ta, fa, fr: S - ta, tr: D - fa }).forEach(([id, n]) => { $(id).textContent = count(n); });
  $("rates").textContent = `Accuracy ${percent((ta + D - fa) / (S + D))}; true accepts ${percent(ta / S)}, false accepts ${percent(fa / D)}.`;
  moveCut(t);
  moveRoc(fa / D, ta / S);
  cancelAnimationFrame(late);
  late = requestAnimationFrame(() => { examples("accepted", t, true); examples("rejected", t, false); });
}
cutForm.slide.max = FURTHEST;
cutForm.slide.addEventListener("input", () => setThreshold(Number(cutForm.slide.value)));
cutForm.number.addEventListener("input", () => { if (cutForm.number.value !== "") setThreshold(Number(cutForm.number.value)); });
cutForm.calibrated.addEventListener("click", () => setThreshold(DATA.threshold));
cutForm.half.addEventListener("click", () => setThreshold(DATA.margin / 2));
cutForm.addEventListener("submit", (event) => event.preventDefault());
setThreshold(DATA.threshold);
