// Profiles: versions, which of them is in force, calibration from reviews, roll back.

import { ask } from "./api.js";
import { choice, el, field, say } from "./build.js";
import { formatNumber, formatTime, t } from "./text.js";

export async function profiles(main, { fail, again }) {
  const [stored, { known, sources }] = await Promise.all([ask("/v1/profiles"), ask("/v1/sources")]);
  const names = [...new Set(stored.profiles.map((profile) => profile.name))];
  const all = [...new Set([...known, ...sources.map((source) => source.name)])];
  main.append(el("h1", {}, t("profiles")));
  for (const name of names) {
    const versions = stored.profiles.filter((profile) => profile.name === name);
    main.append(el("h2", {}, name), calibration(name), ...versions.map((profile) => version(profile, stored.in_force[name] === profile.version)));
  }
  if (all.length) {
    main.append(el("h2", {}, t("profile_of_source")), ...all.map((source) => {
      const select = choice(names.map((name) => [name, name]), stored.sources[source] || "default");
      return el("div", { class: "row" }, field(source, select), el("button", { type: "button", "aria-label": `${t("choose")}: ${source}`, onclick: () => change(`/v1/sources/${encodeURIComponent(source)}/profile`, { profile: select.value }) }, t("choose")));
    }));
  }

  const file = el("input", { type: "file", accept: ".blemish" });
  const called = el("input", { pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]*", required: true, maxlength: "100" });
  main.append(el("h2", {}, t("add_file")), el("form", { class: "row", onsubmit: upload }, field(t("name"), called), field(t("file"), file), el("button", { type: "submit" }, t("apply"))));

  async function upload(event) {
    event.preventDefault();
    const form = new FormData();
    if (file.files[0]) form.append("file", file.files[0]);
    try {
      const made = await ask(`/v1/profiles/${encodeURIComponent(called.value)}/file`, { method: "PUT", body: form });
      say(t("stored", made));
      again();
    } catch (error) {
      fail(error);
    }
  }

  async function change(path, body) {
    try {
      await ask(path, { method: "PUT", body });
      say(t("in_force"));
      again();
    } catch (error) {
      fail(error);
    }
  }

  function version(profile, inForce) {
    const values = profile.calibrated ? Object.entries(profile.calibrated).filter(([, value]) => value !== null).map(([key, value]) => `${key} ${formatNumber(value, 4)}`).join(", ") : "";
    return el("details", { open: inForce },
      el("summary", {}, `${t("version")} ${profile.version}${inForce ? ` – ${t("in_force")}` : ""}, ${t("made_by", { who: profile.made_by, when: formatTime(profile.created) })} ${profile.why}`),
      values ? el("p", {}, values) : null,
      profile.promise ? el("p", {}, `${t("promise")}: ${profile.promise}`) : null,
      el("pre", { class: "wrap", tabindex: "0" }, JSON.stringify(profile.config, null, 1)),
      inForce ? null : el("button", { type: "button", onclick: () => change(`/v1/profiles/${profile.name}/version`, { version: profile.version }) }, t("put_in_force")));
  }

  function calibration(name) {
    const share = el("input", { type: "number", min: "0.001", max: "0.5", step: "0.001", value: "0.05" });
    const result = el("div", { role: "status" });
    async function compute(apply) {
      try {
        const found = await ask(`/v1/profiles/${name}/calibration`, { method: "POST", body: { max_false_rejects: Number(share.value), apply } });
        if (apply) {
          say(t("stored", found));
          again();
          return;
        }
        const numbers = Object.entries(found.thresholds).filter(([, value]) => value !== null).map(([key, value]) => `${key} ${formatNumber(value, 4)}`);
        result.replaceChildren(el("p", {}, t("calibrated", found)), el("p", {}, numbers.join(", ")), el("p", {}, `${t("promise")}: ${found.promise}`), ...found.notes.map((text) => el("p", { class: "faint" }, text)),
          el("button", { type: "button", onclick: () => compute(true) }, t("apply")));
      } catch (error) {
        result.replaceChildren(el("p", { role: "alert" }, error.message));
      }
    }
    return el("div", {}, el("div", { class: "row" }, field(t("max_false_rejects"), share), el("button", { type: "button", onclick: () => compute(false) }, `${t("calibrate")}: ${t("compute")}`)), result);
  }
}
