// The page: log in, the views by the address's hash, keys, what runs while a view is shown.

import { ask, logIn, logOut, session } from "./api.js";
import { el, say } from "./build.js";
import { live } from "./live.js";
import { profiles } from "./profiles.js";
import { review } from "./review.js";
import { search } from "./search.js";
import { statistics } from "./statistics.js";
import { currentLanguage, setLanguage, t } from "./text.js";

const VIEWS = { live, queue: review, search, statistics, profiles };
const HELP = [
  ["1 – 5", "key_views"], ["J →", "key_next"], ["K ←", "key_previous"], ["A", "key_accept"], ["R", "key_reject"], ["T", "key_type"], ["F", "key_false"],
  ["N", "key_note"], ["M", "key_map"], ["O", "key_outline"], ["I", "key_image"], ["+ − 0", "key_zoom"], ["?", "key_help"],
];
const main = document.getElementById("main");
const status = document.getElementById("status");
const login = document.getElementById("login");
const help = document.getElementById("help");
const shortcuts = document.getElementById("shortcuts");
let keys = {};
let timers = [];
let showing = 0;

// Runs work now and again while the view is shown, never twice at once.
function every(ms, work) {
  const mine = showing;
  const run = async () => {
    if (mine !== showing) return;
    try {
      if (!document.hidden) await work();
    } catch (error) {
      if (mine === showing) fail(error);
    }
    if (mine === showing) timers.push(setTimeout(run, ms));
  };
  run();
}

function fail(error) {
  if (error.status === 401) return;
  status.textContent = error.status === 0 ? t("offline") : error.message;
  say(status.textContent);
}

function open(inspection) {
  location.hash = `#/inspection/${inspection.id}`;
}

async function show() {
  showing += 1;
  timers.forEach(clearTimeout);
  timers = [];
  keys = {};
  const [name, id] = location.hash.replace(/^#\//, "").split("/");
  const view = name === "inspection" ? "queue" : name in VIEWS ? name : "live";
  document.getElementById("views").replaceChildren(...Object.keys(VIEWS).map((each) =>
    el("a", { href: `#/${each}`, "aria-current": each === view ? "page" : null }, t(each))));
  document.title = `Blemish – ${t(view)}`;
  main.replaceChildren();
  try {
    await VIEWS[view](main, { id: name === "inspection" ? id : null, open, every, fail, again: show, onKeys: (found) => { keys = found; } });
  } catch (error) {
    fail(error);
  }
  every(3000, state);
}

async function state() {
  const about = await ask("/v1/service");
  const ready = about.ready ? t("ready") : t("not_ready", { why: about.error || "…" });
  status.textContent = `${ready} · ${t("queue_state", { n: about.queue.waiting, limit: about.queue.limit })}`;
}

function words() {
  setLanguage(currentLanguage());
  document.getElementById("language").value = currentLanguage();
  document.getElementById("help-button").setAttribute("aria-label", t("keys"));
  document.getElementById("keys").replaceChildren(...HELP.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, t(text))]));
}

document.getElementById("language").addEventListener("change", (event) => {
  setLanguage(event.target.value);
  words();
  show();
});
document.getElementById("help-button").addEventListener("click", () => help.showModal());
document.getElementById("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = document.getElementById("login-error");
  error.textContent = "";
  try {
    await logIn(document.getElementById("token").value);
    document.getElementById("token").value = "";
    login.close();
    document.getElementById("logout").hidden = false;
    main.focus();
    show();
  } catch (problem) {
    error.textContent = problem.message;
  }
});
login.addEventListener("cancel", (event) => event.preventDefault());
document.getElementById("logout").addEventListener("click", async () => {
  await logOut();
  location.reload();
});
document.addEventListener("logged-out", () => {
  showing += 1;
  if (!login.open) login.showModal();
});
shortcuts.checked = localStorage.getItem("shortcuts") !== "off";
shortcuts.addEventListener("change", () => localStorage.setItem("shortcuts", shortcuts.checked ? "on" : "off"));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key === "Escape" && event.target.closest("textarea, select, input")) main.focus();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !shortcuts.checked) return;
  const view = Object.keys(VIEWS)[Number(event.key) - 1];
  const action = event.key === "?" ? () => help.showModal() : view ? () => { location.hash = `#/${view}`; } : keys[event.key] || keys[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
addEventListener("hashchange", show);

words();
session().then((found) => {
  document.getElementById("logout").hidden = found.local;
  show();
}, (error) => fail(error));
