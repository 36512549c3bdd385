// The live wall: the last parts, as they come.

import { ask, query } from "./api.js";
import { el } from "./build.js";
import { card } from "./shared.js";
import { t } from "./text.js";

const SHOWN = 36;
const EVERY_MS = 1000;

export function live(main, { open, every }) {
  const counts = el("ul", { class: "counts" });
  const cameras = el("div");
  const grid = el("ul", { class: "grid" });
  const known = new Map();
  main.append(el("h1", {}, t("last_parts")), counts, cameras, grid);

  async function update() {
    const { inspections } = await ask(`/v1/inspections${query({ limit: SHOWN, state: ["done", "failed"] })}`);
    const items = inspections.map((inspection) => {
      const state = `${inspection.verdict} ${inspection.review} ${inspection.has_image}`;
      const before = known.get(inspection.id);
      if (before && before.state === state) return before.item;
      const item = el("li", {}, card(inspection, open));
      known.set(inspection.id, { state, item });
      return item;
    });
    if (items.length !== grid.children.length || items.some((item, place) => grid.children[place] !== item)) {
      const focused = document.activeElement;
      grid.replaceChildren(...items);
      if (focused && grid.contains(focused)) focused.focus();
    }
    const shown = new Set(inspections.map((inspection) => inspection.id));
    for (const id of known.keys()) if (!shown.has(id)) known.delete(id);
    if (!items.length) grid.replaceChildren(el("li", {}, t("nothing")));
  }

  async function count() {
    const since = new Date(Date.now() - 24 * 3600 * 1000).toISOString();
    const [found, { sources }] = await Promise.all([ask(`/v1/statistics${query({ from: since })}`), ask("/v1/sources")]);
    counts.replaceChildren(
      ...["ok", "review", "ng"].map((verdict) => el("li", { class: verdict, "data-verdict": verdict }, t(verdict), el("b", {}, String(found.verdicts[verdict])))),
      el("li", { class: "failed faint" }, t("last_hour")));
    cameras.replaceChildren(...sources.filter((source) => source.problem).map((source) => el("p", { role: "alert" }, t("camera_problem", source))));
  }

  every(EVERY_MS, update);
  every(3 * EVERY_MS, count);
}
