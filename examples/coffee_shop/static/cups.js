// Each drink as a glass cut open: what is in it, from the bottom up, in parts of a full glass.

const RECIPES = {
  espresso: { coffee: 0.26, crema: 0.08 },
  macchiato: { coffee: 0.3, foam: 0.14 },
  cortado: { coffee: 0.36, milk: 0.34 },
  "flat white": { coffee: 0.3, milk: 0.48, foam: 0.07 },
  cappuccino: { coffee: 0.28, milk: 0.27, foam: 0.33 },
  latte: { coffee: 0.22, milk: 0.56, foam: 0.12 },
  mocha: { chocolate: 0.22, coffee: 0.24, milk: 0.32, foam: 0.12 },
  filter: { filter: 0.84 },
};

const TOP = 6, BOTTOM = 42, WIDE = 15, NARROW = 10, MIDDLE = 22;

export function cup(drink) {
  const svg = draw("svg", { viewBox: "0 0 48 48", class: "cup", "aria-hidden": "true" });
  svg.append(draw("path", { class: "handle", d: "M36.5 15h2.5a5.5 5.5 0 0 1 0 13H35" }));
  let level = 0;
  for (const [layer, part] of Object.entries(RECIPES[drink] ?? {})) {
    svg.append(draw("path", { class: `layer ${layer}`, d: slice(level, level + part) }));
    level += part;
  }
  svg.append(draw("path", { class: "glass", d: slice(0, 1) }));
  return svg;
}

function slice(from, to) {
  const [low, high] = [from, to].map((level) => BOTTOM - level * (BOTTOM - TOP));
  const [short, long] = [from, to].map((level) => NARROW + level * (WIDE - NARROW));
  return `M${MIDDLE - short} ${low}L${MIDDLE - long} ${high}H${MIDDLE + long}L${MIDDLE + short} ${low}Z`;
}

function draw(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
