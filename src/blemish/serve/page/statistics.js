// Rates, types, scores and drift of a time; and what other thresholds would have done.

import { ask, query } from "./api.js";
import { choice, el, field, svg, table } from "./build.js";
import { formatNumber, formatShare, formatTime, t } from "./text.js";

const HOURS = { day: 24, week: 168, month: 720 };
const VERDICTS = ["ok", "review", "ng"];
const WIDTH = 600;
const HEIGHT = 180;

export async function statistics(main, { fail }) {
  const [{ known }, about] = await Promise.all([ask("/v1/sources"), ask("/v1/service")]);
  const period = choice(Object.keys(HOURS).map((name) => [name, t(name)]), "week", load);
  const source = choice([["", t("all")], ...known.map((name) => [name, name])], "", load);
  const plots = el("div", { class: "plots" });
  const thresholds = about.thresholds || { image: 0.5, review: null };
  const ng = el("input", { type: "range", min: "0", max: "1", step: "0.005", value: String(thresholds.image) });
  const review = el("input", { type: "range", min: "0", max: "1", step: "0.005", value: String(thresholds.review ?? thresholds.image) });
  const ngText = el("output");
  const reviewText = el("output");
  const then = el("div", { role: "status" });
  const lines = svg("g");
  for (const input of [ng, review]) input.addEventListener("input", () => { preview(); });
  main.append(el("h1", {}, t("statistics")), el("div", { class: "row" }, field(t("period"), period), field(t("source"), source)),
    plots,
    el("h2", {}, t("preview")),
    el("div", { class: "sliders" }, field(t("ng_from"), ng), ngText), el("div", { class: "sliders" }, field(t("review_from"), review), reviewText), then);

  function span() {
    return { from: new Date(Date.now() - HOURS[period.value] * 3600 * 1000).toISOString(), source: source.value };
  }

  async function load() {
    try {
      const found = await ask(`/v1/statistics${query(span())}`);
      const hours = found.hours.map((hour) => [formatTime(hour.start), hour.ok, hour.review, hour.ng, formatShare(hour.ng_rate)]);
      const parts = (name, head, rows) => figure(t(name), table([head, t("images"), t("ok"), t("review"), t("ng"), t("ng_rate")], rows, t(name)));
      const row = (part, name) => [name, part.images, part.ok, part.review, part.ng, formatShare(part.ng_rate)];
      plots.replaceChildren(
        figure(t("per_hour"), stacked(found.hours), folded(table([t("time"), t("ok"), t("review"), t("ng"), t("ng_rate")], hours, t("per_hour")))),
        figure(t("pareto"), pareto(found.types)),
        figure(t("scores"), histogram(found.histogram, lines)),
        parts("by_shift", t("by_shift"), found.shifts.map((part) => row(part, part.start))),
        parts("by_source", t("source"), found.sources.map((part) => row(part, part.source))),
        figure(t("by_day"), table([t("time"), t("images"), t("ng_rate"), t("mean_score"), t("drift")],
          found.days.map((day) => [day.day, day.images, formatShare(day.ng_rate), formatNumber(day.mean_score, 3), formatNumber(day.drift, 3)]), t("by_day"))));
      await preview();
    } catch (error) {
      fail(error);
    }
  }

  let asked = 0;
  async function preview() {
    const mine = ++asked;
    const image = Number(ng.value);
    const low = Math.min(Number(review.value), image);
    ngText.value = formatNumber(image, 3);
    reviewText.value = low < image ? formatNumber(low, 3) : "–";
    lines.replaceChildren(...[[low, "review"], [image, "ng"]].map(([score, name]) =>
      svg("line", { class: "line", x1: score * WIDTH, x2: score * WIDTH, y1: 0, y2: HEIGHT - 16 }, svg("title", {}, t(name)))));
    try {
      const found = await ask(`/v1/preview${query({ ...span(), threshold: image, review: low < image ? low : "" })}`);
      if (mine !== asked) return;
      then.replaceChildren(
        table(["", ...VERDICTS.map((name) => t(name)), t("false_rejects"), t("misses")],
          ["now", "then"].map((when) => [t(when), ...VERDICTS.map((name) => found[when][name]), found.reviewed[when].false_rejects, found.reviewed[when].misses]), t("preview")),
        el("p", { id: "changed" }, t("changed", { n: found.changed })));
    } catch (error) {
      fail(error);
    }
  }

  await load();
}

function figure(caption, ...children) {
  return el("figure", {}, el("figcaption", {}, caption), ...children);
}

function folded(content) {
  return el("details", {}, el("summary", {}, t("as_table")), content);
}

function plot(label, ...children) {
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...children);
}

function stacked(hours) {
  const most = Math.max(1, ...hours.map((hour) => hour.images));
  const wide = WIDTH / Math.max(hours.length, 12);
  const bars = hours.flatMap((hour, place) => {
    let base = HEIGHT;
    return VERDICTS.map((verdict) => {
      const tall = (hour[verdict] / most) * (HEIGHT - 8);
      base -= tall;
      return svg("rect", { class: verdict, x: place * wide, width: Math.max(wide - 1, 0.5), y: base, height: tall });
    });
  });
  return plot(t("per_hour"), ...bars);
}

function histogram(found, lines) {
  const bins = found.ok.length;
  const totals = found.ok.map((_, bin) => VERDICTS.reduce((sum, verdict) => sum + found[verdict][bin], 0));
  const most = Math.sqrt(Math.max(1, ...totals));
  const bars = totals.flatMap((total, bin) => {
    let base = HEIGHT - 16;
    return VERDICTS.map((verdict) => {
      const tall = total ? (found[verdict][bin] / total) * (Math.sqrt(total) / most) * (HEIGHT - 24) : 0;
      base -= tall;
      return svg("rect", { class: verdict, x: (bin * WIDTH) / bins, width: WIDTH / bins - 0.5, y: base, height: tall });
    });
  });
  const axis = [0, 0.25, 0.5, 0.75, 1].map((score) => svg("text", { x: Math.min(score * WIDTH, WIDTH - 24), y: HEIGHT - 3 }, String(score)));
  return plot(t("scores"), ...bars, lines, ...axis);
}

function pareto(types) {
  const all = types.reduce((sum, type) => sum + type.images, 0);
  if (!all) return el("p", {}, t("nothing"));
  return el("ul", { class: "bars" }, ...types.slice(0, 12).map((type) => el("li", {},
    el("span", {}, type.type), el("meter", { min: "0", max: String(all), value: String(type.images), "aria-label": type.type }), el("span", {}, `${type.images} (${formatShare(type.images / all)})`))));
}
