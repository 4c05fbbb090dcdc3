// The chosen cell: its formula, the sum with its numbers, the textbook's line, a numeric derivative.

function showCell() {
  const target = $("cell");
  if (!state.chosen) {
    target.replaceChildren(element("h3", {}, "No cell in this step"), element("p", {}, "Its numbers are few and stand in the table."));
    return;
  }
  const { key, branch, cell } = state.chosen, row = arrays[key], r = run();
  const value = row.of[branch][flat(row.shape, cell)], found = explain(key, cell, branch);
  const where = branch === "w" ? "" : branch === "shared" ? ", shared" : `, branch ${branch}`;
  const shown = [element("h3", {}, `${key}[${cell.join(", ")}] of ${step().id}${where}`),
    element("p", { class: "value number", id: "value", "data-value": value }, full(value))];
  if (branch === "a" || branch === "b") {
    const other = branch === "a" ? "b" : "a";
    shown.push(element("p", {}, `The same cell in branch ${other}: `, element("span", { class: "number" }, full(valueAt(key, cell, other)))));
  }
  if (row.computed) shown.push(element("p", {}, badge()));
  if (found) shown.push(...showSum(found, value, row));
  else shown.push(madeElsewhere(key, cell, branch));
  const moved = movedBy(key, cell, branch);
  if (moved) shown.push(...showNumeric(moved, value, r));
  target.replaceChildren(...shown);
}

function showSum(found, value, row) {
  const product = (factors) => factors.reduce((p, { value }) => p * value, 1);
  const terms = found.terms.map((factors) => ({ factors, value: product(factors) }));
  const sum = terms.reduce((s, term) => s + term.value, 0), zeros = terms.filter((term) => term.value === 0).length;
  const sorted = [...terms].sort((p, q) => Math.abs(q.value) - Math.abs(p.value));
  const listed = state.all ? terms : sorted.slice(0, 8);
  const term = (...parts) => element("li", {}, ...parts.map((part) => element("span", {}, part)));
  const list = element("ul", { class: "terms number" });
  const times = (factors, shown) => factors.map(shown).join(" * ");
  for (const { factors, value } of listed)
    list.append(term(times(factors, (factor) => factor.text), times(factors, (factor) => brief(factor.value)), `= ${full(value)}`));
  const others = terms.length - listed.length;
  if (others > 0) list.append(term(`${count(others)} more`, `= ${full(sum - listed.reduce((s, term) => s + term.value, 0))}`));
  const total = term(found.own || "sum", `= ${full(sum)}`);
  Object.assign(total, { id: "sum", className: "total" }).dataset.value = sum;
  list.append(total);
  const shown = [element("code", { class: "formula" }, found.formula),
    element("p", {}, `${plural(terms.length, "term")}${zeros ? `, ${count(zeros)} of them 0 and skipped` : ""}${others > 0 ? "; the largest:" : ":"}`),
    list];
  if (others > 0) shown.push(element("button", { onclick: () => { state.all = true; showCell(); } }, "all terms"));
  const off = Math.abs(sum - value);
  if (!found.own && off > 1e-5 * Math.max(Math.abs(sum), Math.abs(value), row.of.a ? 0.01 * largestOf(row.of.a) : 0))
    shown.push(element("p", { class: "said" }, `The array holds ${full(value)}, not this sum: here is the planted mistake.`));
  else if (off && !found.own)
    shown.push(element("p", {}, `Summed in float64; ${row.computed ? "recomputed" : "the textbook's float32"} differs by ${brief(off)}.`));
  if (found.line) {
    shown.push(lineLink(found.line));
    showSource(...found.line, false);
  }
  return shown;
}

/** Where a number comes from that this step only reads. */
function madeElsewhere(key, cell, branch) {
  const { i } = step();
  if (key !== "x" && key !== "dout")
    return element("p", {}, "A parameter: learned, not computed on this way. Its gradient is in the backward step of this layer.");
  if (key === "x" && i === 0) return element("p", {}, "A pixel of the image.");
  const after = i + 1 < L ? [LAYERS[i + 1].name, "backward", "dx"] : ["distance", "backward", "demb"];
  const [id, pass, from] = key === "x" ? [LAYERS[i - 1].name, "forward", "out"] : after;
  const follow = (event) => {
    event.preventDefault();
    go(STEPS.findIndex((s) => s.id === id && s.pass === pass));
    choose(from, branch, cell);
  };
  return element("p", {}, "Computed one step before: ", element("a", { href: "#steps", onclick: follow }, `${from}[${cell.join(", ")}] of ${id}`));
}

/** What to move for a numeric derivative beside a gradient. */
function movedBy(key, cell, branch) {
  const { i } = step(), branches = branch === "shared" ? ["a", "b"] : [branch];
  const at = flat(arrays[key].shape, cell);
  return { dw: { i, key: "w", at, branches }, db: { i, key: "b", at, branches }, dx: { i, key: "x", at, branches },
    dout: { i: i + 1, key: "x", at, branches }, demb: { i: L, key: "x", at, branches } }[key];
}

function showNumeric(moved, value, r) {
  const { left, right, central, before, after } = numeric(LAYERS, PARAMS, r, moved);
  const kink = Math.abs(right - left) > 0.02 * Math.max(Math.abs(left), Math.abs(right)) && Math.abs(right - left) > 1e-8;
  const digits = agreement(value, central);
  const zero = value === 0 && Math.abs(central) < 1e-10, aside = kink && Math.max(agreement(value, left), agreement(value, right)) >= 3;
  let said = digits ? `They agree in ${plural(digits, "digit")}.` : "They do not agree in a single digit.";
  if (aside) said = `A kink: the slope is ${full(left)} to the left and ${full(right)} to the right, and backward takes one side.`;
  if (zero) said = "Both are 0.";
  const numbers = element("table", {},
    element("tr", {}, element("td", {}, "numeric"), element("td", { class: "right", id: "numeric", "data-value": central }, full(central))),
    element("tr", {}, element("td", {}, "analytic"), element("td", { class: "right" }, full(value))));
  return [element("h3", {}, "Numeric derivative"),
    element("p", {}, `The loss with this number moved by ${STEP}: `,
      element("span", { class: "number" }, `(${full(after)} - ${full(before)}) / ${2 * STEP}`)),
    element("div", { class: "scroll" }, numbers),
    element("p", { id: "agreement", "data-digits": digits, class: digits < 2 && !zero && !aside ? "said" : "" }, said)];
}
function agreement(p, q) {
  const most = Math.max(Math.abs(p), Math.abs(q));
  return most === 0 ? 9 : Math.max(0, Math.min(9, Math.floor(-Math.log10(Math.abs(p - q) / most + 1e-12))));
}

function lineLink([file, number]) {
  const text = DATA.sources[file][number - 1].trim();
  return element("p", {}, element("a", { href: "#textbook", onclick: (event) => { event.preventDefault(); showSource(file, number, true); } },
    `siamese_np/textbook/${file}.py, line ${number}`), ": ", element("code", {}, text));
}
function showSource(file, number, go) {
  $("file").textContent = `siamese_np/textbook/${file}.py`;
  const lines = DATA.sources[file].map((text, n) => `${String(n + 1).padStart(3)}  ${text}\n`);
  const mark = element("mark", {}, lines[number - 1] || "");
  $("source").replaceChildren(lines.slice(0, number - 1).join(""), mark, lines.slice(number).join(""));
  $("source").scrollTop = Math.max(0, mark.offsetTop - $("source").offsetTop - 100);
  if (go) { $("textbook").scrollIntoView({ block: "nearest" }); $("textbook").focus({ preventScroll: true }); }
}
