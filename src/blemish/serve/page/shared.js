// What several views show alike: verdicts, cards, words for an inspection.

import { el } from "./build.js";
import { formatNumber, formatTime, t } from "./text.js";

export const SIGNS = { ok: "✓", review: "?", ng: "✕" };

export function stateOf(inspection) {
  return inspection.verdict || inspection.state;
}

export function verdictOf(inspection) {
  const state = stateOf(inspection);
  return el("span", { class: `verdict ${state}` }, `${SIGNS[state] || "·"} ${t(state)}`);
}

export function words(inspection) {
  const parts = [inspection.name, t(stateOf(inspection))];
  if (inspection.verdict && inspection.verdict !== "ok" && inspection.top_type) parts.push(inspection.top_type);
  if (inspection.image_score !== null) parts.push(`${t("score")} ${formatNumber(inspection.image_score, 3)}`);
  if (inspection.review) parts.push(t(inspection.review));
  return parts.join(", ");
}

export function card(inspection, open) {
  const picture = inspection.has_image && inspection.state === "done"
    ? el("img", { src: `/v1/inspections/${inspection.id}/${inspection.has_maps ? "overlay" : "image"}?most_px=320`, alt: "", loading: "lazy" })
    : el("div", { class: "gone" });
  const type = inspection.verdict === "ok" ? "" : inspection.top_type || inspection.error || "";
  return el("button", { type: "button", class: `card ${stateOf(inspection)}`, onclick: () => open(inspection) },
    picture, verdictOf(inspection),
    el("span", {}, inspection.image_score === null ? "" : `${formatNumber(inspection.image_score, 3)} ${type}`),
    el("span", { class: "faint" }, inspection.review ? `${t(inspection.review)} · ${inspection.name}` : inspection.name),
    el("span", { class: "faint" }, `${formatTime(inspection.accepted)} · ${inspection.source}`));
}
