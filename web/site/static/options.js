// The form with options: filled from the server's description, stored in this browser.

import { json } from "./api.js";
import { languageName } from "./texts.js";

const KEY = "ocr-tasks.choices";
const MANY_LANGUAGES = 12;

const form = document.getElementById("send");
const list = document.getElementById("languages");
const search = document.getElementById("language-search");
const controls = [...form.querySelectorAll("[name]")];

let chosen = []; // languages in the order of selection; the first is the main language
let defaults = {};

export async function start() {
  const [schema, languages] = await Promise.all([json("/v1/options"), json("/v1/languages")]);
  defaults = Object.fromEntries(Object.entries(schema.properties).map(([name, row]) => [name, row.default]));
  const codes = languages.languages.map((row) => row.code);
  defaults.languages = languages.default.filter((code) => codes.includes(code));
  showLanguages(languages.languages);
  apply({ ...defaults, ...remembered() }, codes);
  form.addEventListener("change", remember);
  document.getElementById("reset").addEventListener("click", () => {
    apply(defaults, codes);
    remember();
  });
}

// Pairs of field name and value, without those that are the server's default.
export function fields() {
  const pairs = chosen.map((code) => ["languages", code]);
  for (const control of controls) {
    const value = control.type === "checkbox" ? control.checked : control.value;
    if (value !== "" && String(value) !== String(defaults[control.name] ?? "")) pairs.push([control.name, String(value)]);
  }
  return pairs;
}

function showLanguages(rows) {
  list.replaceChildren(
    ...rows.map((row) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: row.code });
      const label = document.createElement("label");
      const name = languageName(row.code, row.name);
      label.append(box, ` ${name}`);
      label.dataset.find = `${name} ${row.name} ${row.code}`.toLowerCase();
      return label;
    }),
  );
  search.hidden = rows.length <= MANY_LANGUAGES;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const label of list.children) {
      label.hidden = !label.dataset.find.includes(wanted) && !label.firstChild.checked;
    }
  });
  list.addEventListener("change", (event) => {
    const code = event.target.value;
    chosen = event.target.checked ? [...chosen, code] : chosen.filter((other) => other !== code);
  });
}

function apply(values, codes) {
  chosen = (values.languages || []).filter((code) => codes.includes(code));
  for (const box of list.querySelectorAll("input")) box.checked = chosen.includes(box.value);
  for (const control of controls) {
    const value = values[control.name] ?? "";
    if (control.type === "checkbox") control.checked = value === true;
    else control.value = value;
  }
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) || {};
  } catch {
    return {};
  }
}

// Stores the options, except those of a single document, e.g. its title.
function remember() {
  const kept = { languages: chosen };
  for (const control of controls) {
    if (control.type === "checkbox") kept[control.name] = control.checked;
    else if (control.tagName === "SELECT") kept[control.name] = control.value;
  }
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Storage is disabled, e.g. in private windows: the options last until the page is closed.
  }
}
