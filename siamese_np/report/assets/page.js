// What all parts of the page use: words, and the pictures, which are cut out of one sheet.

const POINTS = DATA.points, N = POINTS.number.length;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const className = (c) => DATA.classes[c];
const percent = (share) => `${(100 * share).toFixed(2)} %`, tick = (share) => `${+(100 * share).toPrecision(4)} %`;
const wrong = (i) => POINTS.knn[i] !== POINTS.class[i];
const testName = (i) => `test image ${POINTS.number[i]}, class ${className(POINTS.class[i])}`;

const sheet = new Image(), waiting = [];
sheet.onload = () => waiting.splice(0).forEach((draw) => draw());
sheet.src = `data:image/png;base64,${$("sheet").textContent}`;

/** Picture number k of the sheet: test images first, then the training images near them. */
function picture(k, name) {
  const { across, tile: [w, h], size: [W, H] } = DATA.sheet;
  const canvas = element("canvas", { width: w, height: h, class: "picture", role: "img", "aria-label": name });
  canvas.style.aspectRatio = `${W} / ${Math.max(H, W / 4)}`; // a vector is a strip
  const draw = () => canvas.getContext("2d").drawImage(sheet, (k % across) * w, Math.floor(k / across) * h, w, h, 0, 0, w, h);
  if (sheet.complete && sheet.naturalWidth) draw();
  else waiting.push(draw);
  return canvas;
}

/** The picture of a test image, which chooses it on the map. */
function testButton(i) {
  const onclick = () => { choose(i, true); $("map").scrollIntoView({ block: "start" }); };
  return element("button", { type: "button", class: "image", title: testName(i), onclick }, picture(i, testName(i)));
}
