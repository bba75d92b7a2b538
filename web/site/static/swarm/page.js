// The page /swarm: joins and leaves the swarm, shows the device's progress, and pauses it to save
// battery.

import { json } from "../api.js";
import * as session from "../session.js";
import { count, language, languageName, say } from "../texts.js";
import { Device } from "./device.js";
import { randomName } from "./names.js";

const $ = (id) => document.getElementById(id);

const MAX_WORKERS = 8;
const LOW_BATTERY = 0.2;
const HIDDEN_MINUTES = 10;
const TOTALS_SECONDS = 5;

const cores = navigator.hardwareConcurrency || 2;
const fitting = Math.min(MAX_WORKERS, Math.max(1, cores - 1));

const languages = $("swarm").dataset.languages.split(" ").filter(Boolean);
const device = new Device(languages, show);

// Settings are stored in this browser, if it allows that.
const kept = (key, otherwise) => {
  try {
    return localStorage.getItem(`swarm.${key}`) ?? otherwise;
  } catch {
    return otherwise;
  }
};
const keep = (key, value) => {
  try {
    localStorage.setItem(`swarm.${key}`, value);
  } catch {
    // storage is disabled
  }
};

// Pauses

let hiddenFor = null; // timer while the page is in the background
let hiddenLong = false;
let battery = null;
let awake = null;

const isLow = () => battery && !battery.charging && battery.level < LOW_BATTERY;

function spare() {
  if (hiddenLong && !$("when-hidden").checked) device.pause("hidden");
  else if (isLow() && !$("when-low").checked) device.pause("battery");
  else device.pause(null);
}

function onVisibility() {
  clearTimeout(hiddenFor);
  hiddenLong = false;
  if (document.hidden) {
    hiddenFor = setTimeout(() => {
      hiddenLong = true;
      spare();
    }, HIDDEN_MINUTES * 60_000);
  } else {
    keepAwake();
    totals();
  }
  spare();
}

async function watchBattery() {
  battery = (await navigator.getBattery?.().catch(() => null)) ?? null;
  battery?.addEventListener("levelchange", spare);
  battery?.addEventListener("chargingchange", spare);
  spare();
}

// Phones stop the page when the screen turns off. Wake locks require a secure context.
async function keepAwake() {
  if (!device.joined || document.hidden || (awake && !awake.released)) return;
  awake = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
  if (!device.joined) awake?.release();
}

// Display

function state() {
  if (!device.joined) return ["off", say(device.pages ? "swarm.state.left" : "swarm.state.idle")];
  if (device.offline) return ["wait", say("swarm.state.offline")];
  const busy = device.busy;
  if (device.pausedBy) return ["wait", say(`swarm.${busy ? "pausing" : "paused"}.${device.pausedBy}`)];
  if (device.without === null) return ["wait", say("swarm.state.asking")];
  // Based on the last response too, because there is a short gap between two pages.
  return busy || !device.without ? ["on", say("swarm.state.reading")] : ["wait", say("swarm.state.waiting")];
}

const decimal = (number, digits) =>
  number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Only changes are set, so that screen readers announce a text once.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show() {
  const [light, words] = state();
  $("light").dataset.light = light;
  put($("state"), words);
  put($("join"), say(device.joined ? "swarm.leave" : "swarm.join"));
  $("join").classList.toggle("plain", device.joined);
  put($("refused"), device.refused);
  $("refused").hidden = !device.refused;
  $("paused").hidden = !(device.joined && device.pausedBy);
  put($("paused-words"), device.pausedBy ? say(`swarm.until.${device.pausedBy}`) : "");
  showPeer();
  showWorkers();
  showNumbers();
  showRecent();
  if (!device.joined) awake?.release();
}

// A peer is only shown as a link, because it is not trusted.
function showPeer() {
  const url = device.joined && URL.canParse?.(device.peer ?? "") ? new URL(device.peer) : null;
  const ours = url && /^https?:$/.test(url.protocol);
  $("peer").hidden = !ours;
  if (!ours) return;
  $("peer-link").href = new URL("/swarm", url).href;
  put($("peer-link"), url.host);
}

function showWorkers() {
  const list = $("workers");
  while (list.children.length > device.slots.length) list.lastChild.remove();
  while (list.children.length < device.slots.length) list.append(workerRow(list.children.length + 1));
  device.slots.forEach((slot, index) => {
    const [head, bar] = list.children[index].children;
    const [path, note] = head.children;
    const name = path.firstChild;
    const percent = slot.progress === null ? 0 : Math.round(slot.progress * 100);
    const loading = slot.lease && slot.progress === null;
    const idle = say("swarm.worker.idle");
    put(name, slot.name ?? idle);
    path.title = slot.name ?? "";
    path.classList.toggle("quiet", !slot.name);
    put(note, !slot.lease ? "" : loading ? say("swarm.worker.starting") : `${percent} %`);
    bar.firstChild.style.width = `${percent}%`;
    bar.setAttribute("aria-valuenow", percent);
    bar.setAttribute("aria-valuetext", slot.name ? `${slot.name}: ${note.textContent}` : idle);
  });
}

// The end of a long name stays visible.
function pathOf(name) {
  const path = document.createElement("span");
  path.className = "path";
  path.title = name;
  const text = document.createElement("bdi");
  text.textContent = name;
  path.append(text);
  return path;
}

function workerRow(number) {
  const row = document.createElement("li");
  const head = document.createElement("div");
  head.className = "head";
  const note = document.createElement("span");
  note.className = "quiet";
  head.append(pathOf(""), note);
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", say("swarm.worker", { number }));
  bar.setAttribute("aria-valuemin", 0);
  bar.setAttribute("aria-valuemax", 100);
  bar.append(document.createElement("div"));
  row.append(head, bar);
  return row;
}

function showNumbers() {
  const pace = device.pace;
  put($("pages"), device.pages.toLocaleString(language));
  put($("pace"), pace === null ? "–" : decimal(pace, pace < 10 ? 1 : 0));
  const odd = [
    device.failed && count("swarm.failed", device.failed),
    device.lost && count("swarm.lost", device.lost),
  ].filter(Boolean);
  $("odd").hidden = !odd.length;
  put($("odd"), odd.join(" · "));
}

let shownRecent = null;
function showRecent() {
  if (shownRecent === device.recent[0]) return;
  [shownRecent] = device.recent;
  totals();
  $("recent-section").hidden = !device.recent.length;
  $("recent").replaceChildren(
    ...device.recent.map(({ name, seconds, words }) => {
      const row = document.createElement("li");
      const how = document.createElement("span");
      how.className = "quiet";
      how.textContent = `${say("swarm.seconds", { seconds: decimal(seconds, 1) })} · ${count("unit.words", words)}`;
      row.append(pathOf(name), how);
      return row;
    }),
  );
}

let asking = false;
async function totals() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const { waiting, done } = await json("/v1/swarm");
    put($("waiting"), waiting.toLocaleString(language));
    put($("done"), done.toLocaleString(language));
  } catch {
    // the device shows the error, and the next update follows soon
  } finally {
    asking = false;
  }
}

// Settings

function name() {
  const typed = $("name").value.replace(/[^A-Za-z0-9._ -]+/g, "").trim();
  const chosen = typed || randomName();
  $("name").value = chosen;
  keep("name", chosen);
  return chosen;
}

function offerChoices() {
  $("name").value = kept("name", randomName());
  for (let number = 1; number <= MAX_WORKERS; number += 1) $("at-once").append(new Option(number, number));
  $("at-once").value = Math.min(MAX_WORKERS, Number(kept("at-once", fitting)) || fitting);
  for (const id of ["when-hidden", "when-low"]) {
    $(id).checked = kept(id, "") === "yes";
    $(id).addEventListener("change", () => {
      keep(id, $(id).checked ? "yes" : "");
      spare();
    });
  }
  $("name").addEventListener("change", () => device.rename(name()));
  $("at-once").addEventListener("change", () => {
    keep("at-once", $("at-once").value);
    device.use(Number($("at-once").value));
  });
}

function toggle() {
  if (device.joined) {
    device.leave();
    return;
  }
  device.join(name(), Number($("at-once").value));
  keepAwake();
  spare();
}

function goOnAnyhow() {
  const box = $(device.pausedBy === "hidden" ? "when-hidden" : "when-low");
  box.checked = true;
  box.dispatchEvent(new Event("change"));
}

async function start() {
  if (!languages.length) return;
  if (language !== "en") $("language-names").textContent = languages.map((code) => languageName(code, code)).join(", ");
  offerChoices();
  $("join").addEventListener("click", toggle);
  $("sign-out").addEventListener("click", () => device.leave()); // leases are released while the token is still valid
  $("anyhow").addEventListener("click", goOnAnyhow);
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("pagehide", () => device.leave());
  setInterval(showNumbers, 1000);
  setInterval(totals, TOTALS_SECONDS * 1000);
  watchBattery();
  onVisibility();
  show();
  await session.start("swarm").catch(() => null);
}

await start();
