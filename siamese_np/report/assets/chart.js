// Charts as SVG: axes with ticks, curves, bars.

const [WIDE, HIGH, LEFT, BOTTOM] = [460, 230, 58, 24];
const colour = (k) => `var(--c${k % 10})`, dashes = (k) => ["", "7 3", "2 3"][Math.floor(k / 10) % 3];

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** From values to pixels, and round numbers to write at the axis. */
function axis(low, high, from, to, log) {
  if (log) {
    const [a, b] = [Math.floor(Math.log10(low)), Math.max(Math.ceil(Math.log10(high)), Math.floor(Math.log10(low)) + 1)];
    const every = Math.ceil((b - a) / 5);
    const ticks = Array.from({ length: Math.floor((b - a) / every) + 1 }, (_, k) => 10 ** (a + k * every));
    return { ticks, at: (v) => from + ((Math.log10(v) - a) / (b - a)) * (to - from) };
  }
  if (high <= low) [low, high] = [0.9 * low, high || 1];
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9), ticks = [];
  for (let k = first; k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
  return { ticks, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
}

const short = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(0) : `${+v.toPrecision(4)}`);

/** A frame with both axes; `x` and `y` are {low, high, log, text, write}. */
function frame(title, x, y) {
  const drawn = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": title });
  const across = axis(x.low, x.high, LEFT, WIDE - 12, x.log), up = axis(y.low, y.high, HIGH - BOTTOM - 14, 8, y.log);
  for (const v of up.ticks) drawn.append(
    svg("line", { class: "grid", x1: LEFT, x2: WIDE - 12, y1: up.at(v), y2: up.at(v) }),
    svg("text", { x: LEFT - 6, y: up.at(v) + 4, "text-anchor": "end" }, (y.write || short)(v)));
  for (const v of across.ticks)
    drawn.append(svg("text", { x: across.at(v), y: HIGH - BOTTOM, "text-anchor": "middle" }, (x.write || short)(v)));
  drawn.append(svg("text", { x: WIDE - 12, y: HIGH - 6, "text-anchor": "end" }, x.text));
  return { drawn, x: across.at, y: up.at };
}

/** Curves over x, each {name, values}; where a value is missing there is a gap, and no line. */
function curves(title, xs, series, x, y) {
  const all = series.flatMap((s) => s.values).filter((v) => v !== null && v !== undefined && (!y.log || v > 0));
  if (!all.length) return null;
  const [least, most] = [Math.min(...all), Math.max(...all)], single = xs.length === 1 ? 0.5 : 0;
  const { drawn, x: across, y: up } = frame(title, { low: xs[0] - single, high: xs[xs.length - 1] + single, ...x }, { low: y.zero ? 0 : least, high: most, ...y });
  const legend = element("ul", { class: "legend" });
  series.forEach(({ name, values }, k) => {
    let path = "", pen = "M";
    values.forEach((v, n) => {
      if (v === null || v === undefined || (y.log && v <= 0)) { pen = "M"; return; }
      path += `${pen}${across(xs[n]).toFixed(1)} ${up(v).toFixed(1)}`;
      pen = "L";
      if (values.length < 30) drawn.append(svg("circle", { cx: across(xs[n]), cy: up(v), r: 3, style: `fill:${colour(k)}` }));
    });
    const line = { class: "curve", style: `stroke:${colour(k)}`, "stroke-dasharray": dashes(k) };
    drawn.append(svg("path", { d: path || "M0 0", ...line }));
    const last = values.findLast((v) => v !== null && v !== undefined);
    if (series.length > 1 || name) legend.append(element("li", {},
      svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, svg("path", { d: "M0 5H26", ...line })), `${name} ${last === undefined ? "" : (y.last || y.write || short)(last)}`));
  });
  return { figure: element("figure", { class: "chart" }, element("figcaption", {}, title), drawn, legend), drawn, x: across, y: up };
}
