// Elements from code. Text is always text: nothing that comes from outside is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, options = {}, ...children) {
  return filled(document.createElement(name), options, children);
}

export function svg(name, options = {}, ...children) {
  return filled(document.createElementNS(SVG, name), options, children);
}

function filled(element, options, children) {
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function table(head, rows, caption) {
  const isNumber = (value) => typeof value === "number" || /^[\d.,–\s%]+$/.test(value);
  const numeric = head.map((_, place) => rows.length > 0 && rows.every((row) => isNumber(row[place])));
  return el("div", { class: "wrap", tabindex: "0", role: "region", "aria-label": caption }, el("table", {},
    caption ? el("caption", { class: "hidden" }, caption) : null,
    el("thead", {}, el("tr", {}, ...head.map((text, place) => el("th", { scope: "col", class: numeric[place] ? "number" : null }, text)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value, place) => el("td", { class: numeric[place] ? "number" : null }, value instanceof Node ? value : String(value))))))));
}

export function say(text) {
  document.getElementById("said").textContent = text;
}

export function field(label, input) {
  return el("label", {}, el("span", {}, label), input);
}

export function choice(options, chosen, change) {
  const select = el("select", { onchange: () => change?.(select.value) }, ...options.map(([value, text]) => el("option", { value }, text)));
  select.value = chosen ?? "";
  return select;
}
