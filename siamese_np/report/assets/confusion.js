// The confusion matrix of the nearest-neighbour vote; a cell shows its images.

const MATRIX = 20, LISTED = 100, PICTURES = 60; // classes of a matrix, lines of a list, pictures of a cell, at most

function cell(of, to, n) {
  const words = `${count(n)} of class ${className(of)}, voted ${className(to)}`;
  const onclick = (event) => {
    for (const other of $("matrix").querySelectorAll("button")) other.setAttribute("aria-pressed", other === event.currentTarget);
    showCell(of, to, n);
  };
  return element("button", { type: "button", "aria-pressed": "false", "aria-label": words, onclick, "data-cell": `${of},${to}` }, count(n));
}

function showCell(of, to, n) {
  const here = POINTS.class.map((_, i) => i).filter((i) => POINTS.class[i] === of && POINTS.knn[i] === to), some = here.slice(0, PICTURES);
  const seen = some.length < n ? `; ${count(some.length)} of them are shown` : "";
  $("celltitle").textContent = `Class ${className(of)}, voted ${className(to)}: ${count(n)} test images${seen}`;
  $("cellimages").replaceChildren(...some.map(testButton));
}

function matrix() {
  const used = DATA.classes.map((_, c) => c).filter((c) => DATA.confusion.some(([of, to]) => of === c || to === c));
  const counts = new Map(DATA.confusion.map(([of, to, n]) => [`${of},${to}`, n]));
  if (used.length > MATRIX) {
    const mistakes = DATA.confusion.filter(([of, to]) => of !== to).sort((p, q) => q[2] - p[2]).slice(0, LISTED);
    return element("ol", {}, ...mistakes.map(([of, to, n]) => {
      const button = cell(of, to, n);
      button.textContent = `${className(of)} taken for ${className(to)}: ${count(n)}`;
      return element("li", {}, button);
    }));
  }
  const total = (of) => used.reduce((sum, to) => sum + (counts.get(`${of},${to}`) || 0), 0);
  const head = element("tr", {}, element("td", {}), ...used.map((to) => element("th", { scope: "col" }, className(to))));
  const rows = used.map((of) => element("tr", {}, element("th", { scope: "row" }, className(of)), ...used.map((to) => {
    const n = counts.get(`${of},${to}`), share = n ? Math.sqrt(n / total(of)) : 0;
    const style = `--share:${share.toFixed(3)};--tint:var(--${of === to ? "accent" : "warn"})`;
    return element("td", { class: of === to ? "" : "bad", style }, ...(n ? [cell(of, to, n)] : []));
  })));
  return element("table", {}, element("caption", {}, "Rows: the class. Columns: the vote."), element("thead", {}, head), element("tbody", {}, ...rows));
}

const mistaken = DATA.confusion.reduce((sum, [of, to, n]) => sum + (of === to ? 0 : n), 0);
$("confusiontext").textContent = `Each test image is given the class that most of its ${NEAR} nearest training images have: `
  + `${count(DATA.tests - mistaken)} of ${count(DATA.tests)} rightly, ${count(mistaken)} wrongly. Click a number to see its images.`;
$("matrix").append(matrix());
const worst = DATA.confusion.reduce((best, [of, to, n]) => (of !== to && n > (best ? best[2] : 0) ? [of, to, n] : best), null) || DATA.confusion[0];
showCell(...worst);
