// One image at any size: the image, its heat map and its outlines above one another, moved and enlarged together.

import { el, svg } from "./build.js";
import { t } from "./text.js";
import { words } from "./shared.js";

const MOST = 16;

export class Stage {
  constructor() {
    this.shown = { map: true, outlines: true };
    this.layers = el("div", { class: "layers" });
    this.element = el("div", { class: "stage", tabindex: "0", role: "group", "aria-label": t("image") }, this.layers);
    this.buttons = ["map", "outlines"].map((name) => el("button", { type: "button", "aria-pressed": "true", onclick: () => this.toggle(name) }, t(name)));
    this.bar = el("div", { class: "row" }, ...this.buttons,
      el("button", { type: "button", "aria-label": t("zoom_in"), onclick: () => this.zoom(1.5) }, "+"),
      el("button", { type: "button", "aria-label": t("zoom_out"), onclick: () => this.zoom(1 / 1.5) }, "−"),
      el("button", { type: "button", onclick: () => this.fit() }, t("fit")));
    this.element.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.element.getBoundingClientRect();
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      this.dragged = { x: event.clientX - this.x, y: event.clientY - this.y };
    });
    this.element.addEventListener("pointermove", (event) => {
      if (!this.dragged) return;
      this.x = event.clientX - this.dragged.x;
      this.y = event.clientY - this.dragged.y;
      this.place();
    });
    for (const name of ["pointerup", "pointercancel"]) this.element.addEventListener(name, () => { this.dragged = null; });
    this.fit();
  }

  show(inspection) {
    const base = `/v1/inspections/${inspection.id}`;
    const record = inspection.record;
    if (!inspection.has_image) {
      this.layers.replaceChildren(el("p", {}, t("picture_gone")));
      return;
    }
    const children = [el("img", { src: `${base}/image`, alt: words(inspection), draggable: "false" })];
    if (record && inspection.has_maps) {
      this.map = el("img", { src: `${base}/map`, alt: "", draggable: "false" });
      children.push(this.map);
    }
    if (record && record.width_px) {
      const outlines = record.regions.map((region) => svg("polygon", { points: region.polygon_px.map((point) => point.join(",")).join(" ") },
        svg("title", {}, `${region.type || ""} ${region.peak_score.toFixed(2)}`)));
      this.outlines = svg("svg", { viewBox: `0 0 ${record.width_px} ${record.height_px}`, "aria-hidden": "true" }, ...outlines);
      children.push(this.outlines);
    }
    this.layers.replaceChildren(...children);
    this.fit();
    this.apply();
  }

  toggle(name) {
    this.shown[name] = !this.shown[name];
    this.apply();
  }

  alone() {
    const any = this.shown.map || this.shown.outlines;
    this.shown = { map: !any, outlines: !any };
    this.apply();
  }

  apply() {
    if (this.map) this.map.hidden = !this.shown.map;
    if (this.outlines) this.outlines.style.visibility = this.shown.outlines ? "" : "hidden";
    ["map", "outlines"].forEach((name, place) => this.buttons[place].setAttribute("aria-pressed", String(this.shown[name])));
  }

  zoom(factor, x = this.element.clientWidth / 2, y = this.element.clientHeight / 2) {
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    if (scale === 1) this.fit();
    else this.place();
  }

  fit() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.place();
  }

  place() {
    this.layers.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
  }
}
