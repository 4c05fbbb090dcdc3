// What was measured after each epoch: curves, and the same as a table.

const HISTORY = DATA.history, NAMES = [...new Set(HISTORY.flatMap((row) => Object.keys(row)))];
const column = (name, text = name) => ({ name: text, values: HISTORY.map((row) => row[name]) });
const layers = (prefix) => NAMES.filter((name) => name.startsWith(prefix)).map((name) => column(name, name.slice(prefix.length)));
const epochs = HISTORY.map((row) => row.epoch), whole = (v) => (Number.isInteger(v) ? `${v}` : "");

for (const [title, series, y] of [
  ["Loss", [column("loss", "training"), column("validation_loss", "validation")], { zero: true }],
  ["Validation pair accuracy", [column("validation_pair_accuracy", "validation")], { write: tick, last: percent }],
  ["L2 norm of each layer's gradient", layers("grad_norm."), { log: true }],
  ["Share of dead units of each ReLU", layers("dead."), { zero: true, write: tick, last: percent }],
]) {
  const chart = HISTORY.length && series.length && curves(title, epochs, series, { text: "epoch", write: whole }, y);
  if (chart) $("curves").append(chart.figure);
}
const written = (v) => (v === null || v === undefined ? "" : Number.isInteger(v) ? `${v}` : v.toPrecision(4));
$("history").append(element("table", {},
  element("thead", {}, element("tr", {}, ...NAMES.map((name) => element("th", { scope: "col" }, name)))),
  element("tbody", {}, ...HISTORY.map((row) => element("tr", {}, ...NAMES.map((name) => element("td", {}, written(row[name]))))))));
document.body.dataset.ready = "yes";
