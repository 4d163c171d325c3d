// Where a model looked: pictures, light where it looked much and dark where it did not.

import { make } from "./nodes.js";
import { call, say } from "./words.js";

const SIDE = 320; // pixels of a picture on the canvas
const DARK = 0.78; // how much of the light is taken where it did not look at all

/** The nodes for {places: {input: [{column, grid, picture}]}, words: [{word, places: {input: [grid]}}]}. */
export function heat(seen) {
  const pictures = Object.entries(seen.places)
    .flatMap(([input, places]) => places.map((place, at) => ({ input, at, ...place })))
    .filter((place) => place.picture)
    .map(glass);
  if (!pictures.length) return [];
  const told = say(make("p.hint", { role: "status" }), "why.looked.about");
  const nodes = [say(make("h4"), "why.looked"), make("div.glasses", {}, ...pictures.map((one) => one.node))];
  if (seen.words?.length) nodes.push(sentence(seen.words, pictures, told), say(make("p.hint"), "why.words.about"));
  return [...nodes, told];
}

/** One picture that can be lit by any grid. */
function glass({ input, at, column, grid, picture }) {
  const canvas = make("canvas", { role: "img", "aria-label": column });
  const image = new Image();
  const button = say(make("button.plain.small", { type: "button" }), "why.plain");
  let [lit, now] = [true, grid];
  const draw = () => {
    if (image.naturalWidth) paint(canvas, image, lit ? now : null);
  };
  image.addEventListener("load", draw);
  image.src = `data:image/jpeg;base64,${picture}`;
  button.addEventListener("click", () => {
    lit = !lit;
    say(button, lit ? "why.plain" : "why.heat");
    draw();
  });
  const node = make("figure", {}, canvas, make("figcaption", {}, make("span", { textContent: column }), button));
  return { input, at, node, light: (other) => ((now = other ?? grid), draw()) };
}

function paint(canvas, image, grid) {
  const scale = SIDE / Math.max(image.naturalWidth, image.naturalHeight);
  canvas.width = Math.round(image.naturalWidth * scale);
  canvas.height = Math.round(image.naturalHeight * scale);
  const brush = canvas.getContext("2d");
  brush.imageSmoothingEnabled = scale < 4; // tiny pictures are shown as the pixels that they are
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  if (!grid) return;
  brush.imageSmoothingEnabled = true;
  brush.drawImage(shade(grid), 0, 0, canvas.width, canvas.height);
}

/** A grid as a small picture of darkness. */
function shade(grid) {
  const [height, width] = [grid.length, grid[0].length];
  const most = Math.max(...grid.flat()) || 1;
  const small = make("canvas", { width, height });
  const brush = small.getContext("2d");
  const pixels = brush.createImageData(width, height);
  grid.flat().forEach((weight, i) => (pixels.data[4 * i + 3] = 255 * DARK * (1 - weight / most)));
  brush.putImageData(pixels, 0, 0);
  return small;
}

/** The words of a sentence as buttons: each lights what was looked at when it was said. */
function sentence(spoken, pictures, told) {
  const light = (one) => {
    for (const picture of pictures) picture.light(one?.places[picture.input]?.[picture.at]);
    if (one) say(told, "why.word", { word: one.word });
    else say(told, "why.looked.about");
  };
  let kept = null;
  const buttons = spoken.map((one) => {
    const button = make("button.word", { type: "button", textContent: one.word, "aria-pressed": "false" });
    button.addEventListener("pointerenter", () => light(one));
    button.addEventListener("pointerleave", () => light(kept));
    button.addEventListener("focus", () => light(one));
    button.addEventListener("blur", () => light(kept));
    button.addEventListener("click", () => {
      kept = kept === one ? null : one;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button && kept === one));
      light(kept ?? null);
    });
    return button;
  });
  return call(make("div.words", { role: "group" }, ...buttons), "label", "why.looked");
}
