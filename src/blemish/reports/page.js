"use strict";
// The page of a run. A decision is `score >= threshold`, here as everywhere; nothing is loaded but the linked pictures.

const byId = (id) => document.getElementById(id);
const facts = JSON.parse(byId("facts").textContent);
const images = JSON.parse(byId("images").textContent);
images.forEach((image, number) => { image.number = number; });

const VERDICTS = ["ng", "review", "ok", "unreadable"];
const BINS = 60;
const CARD = { width: 200, height: 216, gap: 10 };
const inRun = facts.thresholds;
const state = { threshold: inRun.image, verdicts: new Set(VERDICTS), type: "", name: "", order: "high", view: "map", shown: [], open: -1 };

byId("sample").textContent = facts.sample;
byId("sample").hidden = !facts.sample;

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const colourOf = (type) => facts.colours[type] || facts.neutral;
const shownType = (type) => type || "defect";
const UNKNOWN = "unknown defect";

// A region's type with that name's own probability; a type that is too unsure stands as a question.
function typeWords(region) {
  if (region.type === null || region.share == null) return shownType(region.type);
  const share = `${Math.round(100 * region.share)} %`;
  return region.guess && region.guess !== region.type ? `unknown (${region.guess}? ${share})` : `${region.type} ${share}`;
}

function decide(image) {
  if (image.score === null) return "unreadable";
  if (image.score >= state.threshold) return "ng";
  return inRun.review !== null && image.score >= inRun.review ? "review" : "ok";
}

// Decisions, counts and the histogram

const scores = images.filter((image) => image.score !== null).map((image) => image.score);
const lowest = scores.reduce((least, score) => Math.min(least, score), inRun.image);
const highest = scores.reduce((most, score) => Math.max(most, score), inRun.image);
const margin = Math.max(0.005, (highest - lowest) * 0.05);
const range = { low: Math.max(0, lowest - margin), high: Math.min(1, highest + margin) };

function countVerdicts() {
  const counts = Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0]));
  for (const image of images) counts[decide(image)] += 1;
  return counts;
}

function showCounts() {
  const counts = countVerdicts();
  for (const button of byId("counts").children) button.lastChild.textContent = counts[button.dataset.verdict];
}

const scoreAt = (number) => (range.low + ((range.high - range.low) * number) / BINS).toFixed(2);

function showHistogram() {
  const bins = Array.from({ length: BINS }, () => ({ ok: 0, review: 0, ng: 0 }));
  for (const image of images) {
    if (image.score === null) continue;
    const place = Math.floor(((image.score - range.low) / (range.high - range.low)) * BINS);
    bins[Math.min(BINS - 1, Math.max(0, place))][decide(image)] += 1;
  }
  const most = Math.max(1, ...bins.map((bin) => bin.ok + bin.review + bin.ng));
  const histogram = byId("histogram");
  histogram.setAttribute("viewBox", `0 0 ${BINS} 100`);
  histogram.replaceChildren();
  bins.forEach((bin, number) => {
    let bottom = 100;
    for (const verdict of ["ok", "review", "ng"]) {
      const height = (95 * bin[verdict]) / most;
      bottom -= height;
      if (!height) continue;
      const bar = drawn("rect", { x: number + 0.06, y: bottom, width: 0.88, height, fill: `var(--${verdict})` });
      const title = drawn("title", {});
      title.textContent = `${scoreAt(number)} to ${scoreAt(number + 1)}: ${bin[verdict]} ${verdict.toUpperCase()}`;
      bar.append(title);
      histogram.append(bar);
    }
  });
  const ends = [0, BINS / 4, BINS / 2, (3 * BINS) / 4, BINS].map((number) => element("span", { textContent: scoreAt(number) }));
  byId("axis").replaceChildren(...ends, element("small", { textContent: `image score; the highest bar is ${most} image${most === 1 ? "" : "s"}` }));
  for (const [score, dashes] of [[inRun.review, "6 4"], [state.threshold, "none"]]) {
    if (score === null) continue;
    const x = ((score - range.low) / (range.high - range.low)) * BINS;
    const line = { x1: x, x2: x, y1: 0, y2: 100, stroke: "var(--ink)", "stroke-width": 2, "stroke-dasharray": dashes };
    histogram.append(drawn("line", { ...line, "vector-effect": "non-scaling-stroke" }));
  }
}

function setThreshold(threshold) {
  if (!(threshold >= 0 && threshold <= 1)) return;
  state.threshold = threshold;
  const changed = threshold !== inRun.image;
  byId("slider").value = threshold;
  byId("threshold").value = changed ? Number(threshold.toFixed(4)) : threshold;
  byId("reset").disabled = !changed;
  byId("command").textContent = changed ? `${facts.rethreshold} ${Number(threshold.toFixed(6))}` : "";
  showCounts();
  showHistogram();
  choose();
}

// Which images, in which order

function choose() {
  state.shown = images.filter((image) =>
    state.verdicts.has(decide(image))
    && (!state.type || image.regions.some((region) => shownType(region.type) === state.type))
    && image.source.toLowerCase().includes(state.name));
  const value = (image) => (image.score === null ? -1 : image.score);
  if (state.order === "high") state.shown.sort((one, other) => value(other) - value(one) || one.number - other.number);
  const byText = (text) => (one, other) => text(one).localeCompare(text(other)) || value(other) - value(one);
  if (state.order === "name") state.shown.sort(byText((image) => image.source));
  if (state.order === "type") state.shown.sort(byText((image) => image.type || ""));
  if (state.order === "low") state.shown.sort((one, other) => value(one) - value(other) || one.number - other.number);
  showGallery(true);
}

// The gallery: only cards that can be seen are in the page

const cards = new Map();

function showGallery(anew = false) {
  const gallery = byId("gallery");
  const space = byId("space");
  const columns = Math.max(1, Math.floor((space.clientWidth + CARD.gap) / (CARD.width + CARD.gap)));
  const width = (space.clientWidth - CARD.gap * (columns - 1)) / columns;
  const step = CARD.height + CARD.gap;
  space.style.height = `${Math.ceil(state.shown.length / columns) * step + CARD.gap}px`;
  const first = Math.max(0, Math.floor(gallery.scrollTop / step) - 1) * columns;
  const last = Math.min(state.shown.length, (Math.ceil((gallery.scrollTop + gallery.clientHeight) / step) + 1) * columns);
  if (anew) {
    space.replaceChildren();
    cards.clear();
    if (!state.shown.length) space.append(element("p", { className: "none", textContent: "No image fits these filters." }));
  }
  for (const [place, card] of cards) {
    if (place < first || place >= last) {
      card.remove();
      cards.delete(place);
    }
  }
  for (let place = first; place < last; place += 1) {
    const card = cards.get(place) || cardOf(place);
    card.style.left = `${(place % columns) * (width + CARD.gap)}px`;
    card.style.top = `${Math.floor(place / columns) * step + CARD.gap}px`;
    card.style.width = `${width}px`;
    card.style.height = `${CARD.height}px`;
    if (!cards.has(place)) {
      cards.set(place, card);
      space.append(card);
    }
  }
}

function cardOf(place) {
  const image = state.shown[place];
  const verdict = decide(image);
  const score = image.score === null ? "" : `  ${image.score.toFixed(3)}`;
  const types = image.regions.length ? shownType(image.type) : "";
  const words = element("span", { className: "words" },
    element("b", { textContent: verdict.toUpperCase() + score + (types ? `  ${types}` : "") }),
    element("small", { textContent: `\u200e${image.source}` }));
  const picture = element("span", { className: "picture" }, pictureOf(image, state.view, true));
  const card = element("button", { type: "button", className: "card", title: image.source }, picture, words);
  card.style.setProperty("--colour", `var(--${verdict})`);
  card.addEventListener("click", () => openZoom(place));
  return card;
}

// Pictures: small ones are in the page; those of full size may lie beside it

function pictureOf(image, view, small) {
  if (image.score === null) return element("p", { textContent: image.error });
  const thumbnail = image.small[view] || image.small.original || image.small.map;
  const instead = () => (view === "mask" ? maskOf(image) : element("img", { src: thumbnail, alt: "" }));
  if (view !== "mask" && !thumbnail) return element("p", { textContent: "The pictures of this image are not there any more." });
  const full = image.full[view];
  if (small || !full) return instead();
  const picture = element("img", { src: full, alt: `${view} of ${image.source}` });
  picture.addEventListener("error", () => picture.replaceWith(instead()), { once: true });
  return picture;
}

function maskOf(image) {
  const [width, height] = image.size;
  const mask = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  mask.append(drawn("rect", { width, height, fill: "#000" }));
  for (const region of image.regions) {
    mask.append(drawn("polygon", { points: region.outline.join(" "), fill: colourOf(region.type) }));
  }
  return mask;
}

// One image, large

function openZoom(place) {
  if (place < 0 || place >= state.shown.length) return;
  state.open = place;
  const image = state.shown[place];
  const verdict = decide(image);
  byId("caption").textContent = `${verdict.toUpperCase()} ${image.score === null ? "" : image.score.toFixed(4)} \u2014 ${image.source}`;
  const about = image.score === null ? [image.error] : [`${image.size[0]} \u00d7 ${image.size[1]} px`];
  for (const region of image.regions) {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colourOf(region.type);
    const size = region.mm2 === null ? `${region.area} px` : `${region.mm2.toFixed(2)} mm\u00b2`;
    about.push(swatch, `${typeWords(region)}, anomaly ${region.peak.toFixed(3)}, ${size}`);
  }
  byId("details").replaceChildren(...about);
  showZoomed();
  if (!byId("zoom").open) byId("zoom").showModal();
}

function showZoomed() {
  const view = document.querySelector("input[name=zoomview]:checked").value;
  byId("stage").classList.remove("actual");
  byId("stage").replaceChildren(pictureOf(state.shown[state.open], view, false));
}

function onKey(event) {
  const views = { 1: "map", 2: "mask", 3: "original" };
  if (event.key === "ArrowLeft") openZoom(state.open - 1);
  else if (event.key === "ArrowRight") openZoom(state.open + 1);
  else if (views[event.key]) {
    document.querySelector(`input[name=zoomview][value=${views[event.key]}]`).checked = true;
    showZoomed();
  } else return;
  event.preventDefault();
}

// The beginning

function begin() {
  document.title = `Blemish: ${facts.title}`;
  byId("title").textContent = facts.title;
  byId("drift").textContent = facts.drift;
  byId("drift").hidden = !facts.drift;
  for (const verdict of VERDICTS) {
    if (verdict === "unreadable" && !images.some((image) => image.score === null)) continue;
    if (verdict === "review" && inRun.review === null) continue;
    const button = element("button", { type: "button" }, verdict.toUpperCase(), element("b"));
    button.dataset.verdict = verdict;
    button.setAttribute("aria-pressed", "true");
    button.style.setProperty("--colour", `var(--${verdict})`);
    button.addEventListener("click", () => {
      const shown = !state.verdicts.delete(verdict);
      if (shown) state.verdicts.add(verdict);
      button.setAttribute("aria-pressed", String(shown));
      choose();
    });
    byId("counts").append(button);
  }
  const types = new Set(images.flatMap((image) => image.regions.map((region) => shownType(region.type))));
  byId("unknown").hidden = !types.has(UNKNOWN);
  for (const type of [...types].sort()) byId("type").append(element("option", { value: type, textContent: type }));
  byId("review").textContent = inRun.review === null ? "" : `review from ${inRun.review.toFixed(4)} (dashed)`;
  Object.assign(byId("slider"), { min: range.low, max: range.high, step: (range.high - range.low) / 1000 });
  for (const [name, value] of facts.provenance) {
    byId("provenance").append(element("tr", {}, element("th", { textContent: name }), element("td", { textContent: value })));
  }
  byId("slider").addEventListener("input", (event) => setThreshold(Number(event.target.value)));
  byId("threshold").addEventListener("change", (event) => setThreshold(Number(event.target.value)));
  byId("reset").addEventListener("click", () => setThreshold(inRun.image));
  byId("type").addEventListener("change", (event) => { state.type = event.target.value; choose(); });
  byId("name").addEventListener("input", (event) => { state.name = event.target.value.toLowerCase(); choose(); });
  byId("order").addEventListener("change", (event) => { state.order = event.target.value; choose(); });
  byId("view").addEventListener("change", (event) => { state.view = event.target.value; showGallery(true); });
  byId("zoomview").addEventListener("change", showZoomed);
  byId("stage").addEventListener("click", () => byId("stage").classList.toggle("actual"));
  byId("before").addEventListener("click", () => openZoom(state.open - 1));
  byId("after").addEventListener("click", () => openZoom(state.open + 1));
  byId("close").addEventListener("click", () => byId("zoom").close());
  byId("zoom").addEventListener("keydown", onKey);
  let asked = 0;
  const soon = () => {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => showGallery());
  };
  byId("gallery").addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(soon).observe(byId("gallery"));
  setThreshold(inRun.image);
}

begin();
