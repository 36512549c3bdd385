// The queue of what a person should look at, and one part after the other with its review.

import { ask, query } from "./api.js";
import { choice, el, field, say, table } from "./build.js";
import { verdictOf } from "./shared.js";
import { Stage } from "./stage.js";
import { formatNumber, formatShare, formatTime, t } from "./text.js";

const LABELS = [["accept", "A"], ["reject", "R"], ["other_type", "T"], ["false_alarm", "F"]];
const FILTERS = { verdict: ["review", "ng"], review: "none", state: "done", limit: 100 };

// Shows the queue, or one inspection where its id is given.
export async function review(main, { id, onKeys, every }) {
  const list = id ? [{ id }] : (await ask(`/v1/inspections${query(FILTERS)}`)).inspections;
  const title = el("h1", {}, id ? "" : t("queue_title"));
  const place = el("span", { class: "faint", role: "status" });
  const body = el("div");
  main.append(title, body);
  let at = 0;
  let current = null;
  let saving = false;
  const done = new Set();  // ids that were reviewed here
  const stage = new Stage();
  const note = el("textarea", { id: "note", maxlength: "2000" });
  const reviewer = el("input", { autocomplete: "name", maxlength: "100", value: localStorage.getItem("reviewer") || "" });
  const types = el("select", { id: "types" });
  const facts = el("div");
  const error = el("p", { role: "alert" });
  const buttons = LABELS.map(([label, key]) => el("button", { type: "button", "data-label-name": label, onclick: () => save(label) }, t(label), el("kbd", { "aria-hidden": "true" }, key)));
  const step = el("div", { class: "row" },
    el("button", { type: "button", onclick: () => move(-1) }, t("previous")),
    el("button", { type: "button", onclick: () => move(1) }, t("next")), place);
  const view = el("div", { class: "review-view" },
    el("section", {}, stage.bar, stage.element),
    el("section", { class: "side" }, step, facts, el("div", { class: "labels" }, ...buttons), field(t("type"), types), field(t("note"), note), field(t("reviewer"), reviewer), error));
  reviewer.addEventListener("change", () => localStorage.setItem("reviewer", reviewer.value));

  async function show() {
    if (!list.length) {
      body.replaceChildren(el("p", {}, t("queue_done")));
      return;
    }
    at = Math.min(Math.max(at, 0), list.length - 1);
    current = await ask(`/v1/inspections/${list[at].id}`);
    if (!body.contains(view)) body.replaceChildren(view);
    stage.show(current);
    note.value = "";
    error.textContent = "";
    place.textContent = t("of", { n: at + 1, all: list.length });
    const record = current.record;
    const names = record ? Object.keys(record.types) : [];
    types.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    if (current.top_type && names.includes(current.top_type)) types.value = current.top_type;
    facts.replaceChildren(...described(current));
  }

  async function move(by) {
    at += by;
    await show();
  }

  // One part at a time: a key that is pressed while another is saved would label the same part twice.
  async function save(label) {
    if (!current || saving) return;
    saving = true;
    try {
      await saveCurrent(label);
    } finally {
      saving = false;
    }
  }

  async function saveCurrent(label) {
    const reviewed = current;
    try {
      await ask(`/v1/inspections/${reviewed.id}/review`, {
        method: "PUT",
        body: { label, type: label === "other_type" ? types.value : null, note: note.value, reviewer: reviewer.value || null },
      });
    } catch (problem) {
      error.textContent = problem.message;
      return;
    }
    if (document.activeElement === types || document.activeElement === note) stage.element.focus();  // single keys again
    say(t("saved", { name: reviewed.name, label: t(label) }));
    document.dispatchEvent(new Event("reviewed"));
    if (id) {
      await show();
      return;
    }
    done.add(reviewed.id);
    list.splice(at, 1);
    await show();
  }

  onKeys({
    a: () => save("accept"), r: () => save("reject"), f: () => save("false_alarm"),
    t: () => { types.focus(); say(t("which_type")); },
    j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
    m: () => stage.toggle("map"), o: () => stage.toggle("outlines"), i: () => stage.alone(),
    "+": () => stage.zoom(1.5), "-": () => stage.zoom(1 / 1.5), 0: () => stage.fit(), n: () => note.focus(),
  });
  types.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); save("other_type"); } });
  await show();
  if (!id) {
    every(5000, async () => {  // what came meanwhile goes behind what is there
      const known = new Set(list.map((inspection) => inspection.id));
      const { inspections } = await ask(`/v1/inspections${query(FILTERS)}`);
      if (saving) return;
      const was = list.length;
      list.push(...inspections.filter((inspection) => !known.has(inspection.id) && !done.has(inspection.id)).reverse());
      if (!was && list.length) await show();
      else if (list.length) place.textContent = t("of", { n: at + 1, all: list.length });
    });
  }
}

function described(inspection) {
  const record = inspection.record;
  const parts = [
    el("p", {}, verdictOf(inspection), " ", inspection.image_score === null ? inspection.error || "" : `${t("score")} ${formatNumber(inspection.image_score, 3)}, ${t("threshold")} ${formatNumber(record.thresholds.image, 3)}`),
    el("p", { class: "faint" }, `${inspection.name} · ${inspection.source} · ${formatTime(inspection.accepted)}`),
  ];
  if (record && record.regions.length) {
    parts.push(table([t("type"), "", t("score")], record.regions.slice(0, 8).map((region) => [region.type || "–", formatShare(region.type_probability), formatNumber(region.peak_score, 3)]), t("regions")));
  } else if (record) parts.push(el("p", {}, t("no_regions")));
  if (inspection.reviews.length) {
    parts.push(el("h2", {}, t("history")), el("ul", {}, ...inspection.reviews.map((said) => el("li", {}, `${t(said.label)}${said.type ? ` (${said.type})` : ""}, ${said.reviewer}, ${formatTime(said.when)}${said.note ? `: ${said.note}` : ""}`))));
  }
  return parts;
}
