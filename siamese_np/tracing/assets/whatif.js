// What if: the loss at another distance or margin, after a step of descent, or with a mistake in backward.

function showLoss() {
  const r = run(), from = base(), most = Math.max(1.6 * r.margin, 1.5 * from.dist, 1.5 * from.margin);
  $("dist").min = 0; $("dist").max = most; $("dist").value = r.dist;
  $("margin").min = from.margin / 20; $("margin").max = 2 * from.margin; $("margin").value = r.margin;
  $("label").value = r.label;
  $("distvalue").textContent = brief(r.dist);
  $("marginvalue").textContent = brief(r.margin);
  const [W, H, gap] = [360, 170, 24], top = Math.max(lossOf(most, r.label, r.margin), lossOf(0, r.label, r.margin), 1e-12);
  const X = (d) => gap + (d / most) * (W - gap - 8), Y = (v) => H - gap - (Math.min(v, 1.2 * top) / top) * (H - gap - 18);
  const point = (d, v) => `${X(d).toFixed(1)},${Y(v).toFixed(1)}`, reach = most / 6;
  const curve = Array.from({ length: 101 }, (_, k) => (k / 100) * most).map((d) => point(d, lossOf(d, r.label, r.margin))).join(" ");
  const ends = [r.dist - reach, r.dist + reach].map((d) => point(d, r.loss + r.ddist * (d - r.dist))).join(" ");
  const beyond = `<rect x="${X(r.margin)}" y="10" width="${Math.max(0, X(most) - X(r.margin))}" height="${H - gap - 10}" fill="currentColor" opacity=".12"/>
    <text x="${W - 12}" y="24" text-anchor="end">no gradient</text>`;
  const zone = r.label === 1 ? beyond : `<text x="${X(0) + 6}" y="24">no gradient at dist = 0 only</text>`;
  $("curve").innerHTML = `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="loss against distance, with its slope at ${brief(r.dist)}">${zone}
    <path d="M${gap} 10V${H - gap}H${W - 8}" fill="none" stroke="currentColor" opacity=".5"/>
    <polyline points="${curve}" fill="none" stroke="currentColor" stroke-width="2"/>
    <polyline points="${ends}" fill="none" stroke="#d6006c" stroke-width="2"/>
    <circle cx="${X(r.dist)}" cy="${Y(r.loss)}" r="4" fill="#d6006c"/>
    <text x="${X(r.margin)}" y="${H - 8}" text-anchor="middle">margin</text><text x="${W - 8}" y="${H - 8}" text-anchor="end">dist</text></svg>`;
  const zero = r.ddist === 0 || distanceOf(from.a.acts[L], from.b.acts[L]) === 0;
  $("slope").replaceChildren(`loss ${full(r.loss)}, slope ddist `, element("b", { id: "ddist", "data-value": r.ddist }, full(r.ddist)),
    zero ? ": in the zone without gradient, no weight moves. " : `: the images are ${r.ddist > 0 ? "pulled together" : "pushed apart"}. `,
    state.what ? badge() : "These numbers are the stored ones.");
}

function showDescent() {
  const rate = 10 ** $("rate").value, r = run(), { squares, loss } = descend(LAYERS, PARAMS, r, rate), predicted = -rate * squares;
  $("ratevalue").textContent = brief(rate);
  const line = (name, v, id) => element("tr", {}, element("td", {}, name), element("td", { class: "right", id, "data-value": v }, full(v)));
  const table = element("table", {}, line("loss before", r.loss), line("loss after", loss, "after"),
    line("change", loss - r.loss, "change"), line("-rate * |g|^2", predicted, "predicted"));
  const told = `The change is ${((loss - r.loss) / predicted).toFixed(3)} times what the gradient predicts. The smaller the rate, the closer to 1. `;
  $("descent").replaceChildren(element("div", { class: "scroll" }, table),
    squares === 0 ? element("p", {}, "No gradient, no step.") : element("p", {}, told, badge()));
}

function showMistake() {
  const mistake = DATA.mistakes.find(({ name }) => name === state.mistake), effect = $("effect"), wrong = new Set();
  if (mistake) {
    const heads = ["array", "changed", "largest change"].map((text, n) => element("th", { class: n ? "right" : "" }, text));
    const table = element("table", {}, element("tr", {}, ...heads));
    let unchanged = 0;
    for (const [n, s] of STEPS.entries()) {
      if (s.pass === "forward") continue;
      const [now, before] = [run(), right()].map((r) => arraysOf(s, r));
      for (const [k, row] of now.entries()) for (const [branch, data] of Object.entries(row.of)) {
        if (row.key[0] !== "d" || row.key === "dout" || !"a b shared".includes(branch)) continue;
        const was = before[k].of[branch], most = largestOf(was) * 1e-5;
        let changed = 0, largest = 0;
        for (let m = 0; m < data.length; m++) { const d = Math.abs(data[m] - was[m]); changed += d > most; largest = Math.max(largest, d); }
        if (!changed) { unchanged++; continue; }
        wrong.add(n);
        const link = element("a", { href: "#steps", onclick: (event) => { event.preventDefault(); go(n); } }, `${s.id}.${row.key}, ${branch}`);
        table.append(element("tr", {}, element("td", {}, link),
          element("td", { class: "right" }, `${count(changed)} of ${count(data.length)}`), element("td", { class: "right" }, brief(largest))));
      }
    }
    effect.replaceChildren(element("p", {}, `${mistake.text[0].toUpperCase()}${mistake.text.slice(1)}.`),
      wrong.size ? element("div", { class: "scroll" }, table) : element("p", {}, "It changes nothing for this pair."),
      element("p", {}, `${count(unchanged)} arrays keep their numbers. `, badge()),
      element("h3", {}, "What the gradient checker says"),
      element("p", {}, `Of the same mistake in ${!mistake.place ? "the distance, of" : LAYERS.find(({ name }) => name === mistake.place).params
        ? `a corner of ${mistake.place}, a few channels or units with the model's own weights, with two branches and`
        : `${mistake.place} on a small input, with two branches and`} six random inputs:`),
      element("div", { class: "said number", id: "said" }, mistake.said.join("\n")));
  } else effect.replaceChildren(element("p", {}, "Choose one: the page recomputes the way back with it, marks every step that it changes, "
    + "and tells what the gradient checker says."));
  document.querySelectorAll("#steps li").forEach((item, n) => item.classList.toggle("changed", wrong.has(n)));
}

function refresh() {
  const chosen = state.chosen;
  showStep();
  if (chosen && arrays[chosen.key]) choose(chosen.key, chosen.branch, chosen.cell);
  else chooseLargest();
  showLoss();
  showDescent();
  showMistake();
}

function slid() {
  state.what = { dist: Number($("dist").value), margin: Number($("margin").value), label: Number($("label").value) };
  refresh();
}
let waiting = 0;
const soon = (work) => () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(work); };
for (const id of ["dist", "margin"]) $(id).addEventListener("input", soon(slid));
$("label").addEventListener("change", slid);
$("reset").addEventListener("click", () => { state.what = null; refresh(); });
$("rate").addEventListener("input", soon(showDescent));
$("mistake").append(...DATA.mistakes.map(({ name, title }) => element("option", { value: name }, title)));
$("mistake").addEventListener("change", (event) => { state.mistake = event.target.value; refresh(); });
