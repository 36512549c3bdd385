// The words of the page in each language. A missing one is shown in English.

const TEXTS = {
  en: {
    skip: "Skip to the content", views: "Views", language: "Language", login: "Log in", logout: "Log out", token: "Token",
    login_why: "This service needs a token. blemish serve token create makes one.", close: "Close", keys: "Keys",
    shortcuts_on: "Single keys are on", live: "Live", queue: "Review", search: "Search", statistics: "Statistics", profiles: "Profiles",
    ok: "OK", review: "REVIEW", ng: "NG", failed: "not inspected", waiting: "waiting", cancelled: "cancelled",
    last_parts: "The last parts", nothing: "Nothing yet.", last_hour: "in the last 24 hours", to_review: "to review",
    queue_title: "Parts to review", queue_done: "Nothing is left to review.", of: "{n} of {all}", more_left: "more than {n} left",
    accept: "Accept", reject: "Reject", other_type: "Other type", false_alarm: "False alarm", note: "Note", type: "Type", reviewer: "Reviewer",
    which_type: "Which type is it?", saved: "{name}: {label}. Saved.", previous: "Previous", next: "Next",
    image: "Image", map: "Heat map", outlines: "Outlines", zoom_in: "Zoom in", zoom_out: "Zoom out", fit: "Fit",
    score: "score", threshold: "threshold", source: "Source", name: "Name", verdict: "Verdict", time: "Time", region: "Region", regions: "Regions",
    no_regions: "No regions.", history: "Reviews", picture_gone: "The image is kept no more.", all: "all", none: "none", reviewed: "Reviewed",
    from: "From", to: "To", find: "Find", more: "More", export: "Export", format: "Format", found: "{n} found", found_more: "more than {n} found",
    period: "Period", day: "24 hours", week: "7 days", month: "30 days", images: "Images", ng_rate: "NG rate",
    per_hour: "Images an hour", pareto: "Types of what is not OK", scores: "Scores and thresholds", by_shift: "By shift", by_source: "By source",
    by_day: "By day", drift: "Drift", mean_score: "Mean score", as_table: "As a table", preview: "What would another threshold have done?",
    review_from: "REVIEW from", ng_from: "NG from", now: "Now", then: "Then", changed: "{n} verdicts would be other ones.",
    false_rejects: "reviewed good parts called NG", misses: "reviewed bad parts called OK",
    version: "Version", in_force: "in force", made_by: "by {who}, {when}", put_in_force: "Put in force", config: "Settings", promise: "Promise",
    calibrate: "Calibrate from reviews", max_false_rejects: "Good parts that may be NG", compute: "Compute", apply: "Store and use",
    calibrated: "From {good} good and {bad} bad reviewed parts", profile_of_source: "Profile of each source", choose: "Choose",
    add_file: "Add a file of blemish learn", file: "File",
    stored: "Version {version} is in force.", ready: "ready", not_ready: "not ready: {why}", queue_state: "queue {n}/{limit}", offline: "The service cannot be reached.",
    key_next: "next part", key_previous: "previous part", key_accept: "accept", key_reject: "reject", key_type: "other type", key_false: "false alarm",
    key_note: "write a note", key_map: "heat map on or off", key_outline: "outlines on or off", key_image: "image alone", key_zoom: "zoom in, out, fit",
    key_views: "the views", key_help: "this help", camera_problem: "{name}: {problem}", taken: "taken", skipped: "skipped", state: "State",
  },
  de: {
    skip: "Zum Inhalt", views: "Ansichten", language: "Sprache", login: "Anmelden", logout: "Abmelden", token: "Schlüssel",
    login_why: "Dieser Dienst braucht einen Schlüssel. blemish serve token create macht einen.", close: "Schließen", keys: "Tasten",
    shortcuts_on: "Einzelne Tasten sind an", live: "Laufend", queue: "Prüfen", search: "Suchen", statistics: "Statistik", profiles: "Profile",
    ok: "OK", review: "PRÜFEN", ng: "NG", failed: "nicht prüfbar", waiting: "wartet", cancelled: "abgebrochen",
    last_parts: "Die letzten Teile", nothing: "Noch nichts.", last_hour: "in den letzten 24 Stunden", to_review: "zu prüfen",
    queue_title: "Teile zu prüfen", queue_done: "Nichts mehr zu prüfen.", of: "{n} von {all}", more_left: "mehr als {n} übrig",
    accept: "Annehmen", reject: "Ablehnen", other_type: "Anderer Fehler", false_alarm: "Fehlalarm", note: "Bemerkung", type: "Fehler", reviewer: "Prüfer",
    which_type: "Welcher Fehler ist es?", saved: "{name}: {label}. Gespeichert.", previous: "Voriges", next: "Nächstes",
    image: "Bild", map: "Wärmekarte", outlines: "Umrisse", zoom_in: "Größer", zoom_out: "Kleiner", fit: "Einpassen",
    score: "Wert", threshold: "Schwelle", source: "Quelle", name: "Name", verdict: "Urteil", time: "Zeit", region: "Stelle", regions: "Stellen",
    no_regions: "Keine Stellen.", history: "Prüfungen", picture_gone: "Das Bild ist nicht mehr da.", all: "alle", none: "keine", reviewed: "Geprüft",
    from: "Von", to: "Bis", find: "Suchen", more: "Mehr", export: "Ausgeben", format: "Format", found: "{n} gefunden", found_more: "mehr als {n} gefunden",
    period: "Zeitraum", day: "24 Stunden", week: "7 Tage", month: "30 Tage", images: "Bilder", ng_rate: "NG-Anteil",
    per_hour: "Bilder je Stunde", pareto: "Fehler der Teile, die nicht OK sind", scores: "Werte und Schwellen", by_shift: "Nach Schicht", by_source: "Nach Quelle",
    by_day: "Nach Tag", drift: "Abweichung", mean_score: "Mittlerer Wert", as_table: "Als Tabelle", preview: "Was hätte eine andere Schwelle getan?",
    review_from: "PRÜFEN ab", ng_from: "NG ab", now: "Jetzt", then: "Dann", changed: "{n} Urteile wären andere.",
    false_rejects: "geprüfte gute Teile als NG", misses: "geprüfte schlechte Teile als OK",
    version: "Fassung", in_force: "gilt", made_by: "von {who}, {when}", put_in_force: "Gelten lassen", config: "Einstellungen", promise: "Zusage",
    calibrate: "Aus Prüfungen kalibrieren", max_false_rejects: "Gute Teile, die NG sein dürfen", compute: "Berechnen", apply: "Speichern und nutzen",
    calibrated: "Aus {good} guten und {bad} schlechten geprüften Teilen", profile_of_source: "Profil jeder Quelle", choose: "Wählen",
    add_file: "Eine Datei von blemish learn dazunehmen", file: "Datei",
    stored: "Fassung {version} gilt.", ready: "bereit", not_ready: "nicht bereit: {why}", queue_state: "Schlange {n}/{limit}", offline: "Der Dienst ist nicht erreichbar.",
    key_next: "nächstes Teil", key_previous: "voriges Teil", key_accept: "annehmen", key_reject: "ablehnen", key_type: "anderer Fehler", key_false: "Fehlalarm",
    key_note: "Bemerkung schreiben", key_map: "Wärmekarte an oder aus", key_outline: "Umrisse an oder aus", key_image: "nur das Bild", key_zoom: "größer, kleiner, einpassen",
    key_views: "die Ansichten", key_help: "diese Hilfe", camera_problem: "{name}: {problem}", taken: "genommen", skipped: "ausgelassen", state: "Zustand",
  },
};

let language = localStorage.getItem("language") || (navigator.language.startsWith("de") ? "de" : "en");

export function currentLanguage() {
  return language;
}

export function setLanguage(name) {
  language = name in TEXTS ? name : "en";
  localStorage.setItem("language", language);
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}

// The text of a key; {name} in it is replaced by a value.
export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export function formatTime(text) {
  return text ? new Date(text).toLocaleString(language) : "";
}

export function formatNumber(value, digits = 0) {
  return value === null || value === undefined ? "–" : value.toLocaleString(language, { maximumFractionDigits: digits });
}

export function formatShare(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString(language, { style: "percent", maximumFractionDigits: 1 });
}
