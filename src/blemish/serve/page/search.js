// Search in the history, and export of what was found.

import { ask, query } from "./api.js";
import { choice, el, field } from "./build.js";
import { card } from "./shared.js";
import { t } from "./text.js";

const FORMATS = ["coco", "label-studio", "yolo-seg", "masks", "csv", "parquet", "fiftyone"];
const LABELS = ["none", "accept", "reject", "other_type", "false_alarm"];

export async function search(main, { open, fail }) {
  const [{ known }, about] = await Promise.all([ask("/v1/sources"), ask("/v1/service")]);
  const every = [["", t("all")]];
  const inputs = {
    verdict: choice([...every, ...["ok", "review", "ng"].map((name) => [name, t(name)])], ""),
    type: choice([...every, ...(about.types || []).map((name) => [name, name])], ""),
    source: choice([...every, ...known.map((name) => [name, name])], ""),
    review: choice([...every, ...LABELS.map((name) => [name, t(name)])], ""),
    name: el("input", { type: "search" }),
    from: el("input", { type: "datetime-local" }),
    to: el("input", { type: "datetime-local" }),
  };
  const labels = { verdict: "verdict", type: "type", source: "source", review: "reviewed", name: "name", from: "from", to: "to" };
  const found = el("p", { role: "status" });
  const grid = el("ul", { class: "grid" });
  const more = el("button", { type: "button", hidden: true, onclick: () => load(false) }, t("more"));
  const format = choice(FORMATS.map((name) => [name, name]), "coco");
  const form = el("form", { class: "row", onsubmit: (event) => { event.preventDefault(); load(true); } },
    ...Object.entries(inputs).map(([name, input]) => field(t(labels[name]), input)), el("button", { type: "submit" }, t("find")));
  const out = el("div", { class: "row" }, field(t("format"), format), el("button", { type: "button", onclick: save }, t("export")));
  main.append(el("h1", {}, t("search")), form, out, found, grid, more);
  let cursor = null;

  function filters() {
    const when = (input) => (input.value ? new Date(input.value).toISOString() : "");
    return {
      verdict: inputs.verdict.value, type: inputs.type.value, source: inputs.source.value, review: inputs.review.value,
      name: inputs.name.value, from: when(inputs.from), to: when(inputs.to),
    };
  }

  async function load(anew) {
    try {
      const page = await ask(`/v1/inspections${query({ ...filters(), limit: 60, cursor: anew ? "" : cursor })}`);
      const cards = page.inspections.map((inspection) => el("li", {}, card(inspection, open)));
      if (anew) {
        grid.replaceChildren(...cards);
        const { count, more: many } = await ask(`/v1/count${query(filters())}`);
        found.textContent = t(many ? "found_more" : "found", { n: count });
      } else grid.append(...cards);
      cursor = page.next;
      more.hidden = cursor === null;
    } catch (error) {
      fail(error);
    }
  }

  async function save() {
    try {
      const answer = await fetch(`/v1/exports/${format.value}${query(filters())}`, { credentials: "same-origin" });
      if (!answer.ok) throw new Error((await answer.json()).error.message);
      const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: `blemish-${format.value}.zip` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      found.textContent = `${t("export")}: blemish-${format.value}.zip`;
    } catch (error) {
      fail(error);
    }
  }

  await load(true);
}
