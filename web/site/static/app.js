// The entry point of the page: connects its parts.

import { announce } from "./announcing.js";
import { Offline } from "./api.js";
import * as batches from "./batches.js";
import * as jobs from "./jobs.js";
import * as list from "./list.js";
import * as notices from "./notices.js";
import * as options from "./options.js";
import { isSending, send } from "./sending.js";
import * as session from "./session.js";
import { language, say } from "./texts.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

// The viewer is loaded when it is first used.
let viewer = null;

function loadViewer() {
  viewer ??= import("./viewer/viewer.js").then(
    (loaded) => {
      loaded.start();
      return loaded;
    },
    () => {
      viewer = null;
      throw new Offline(say("server.offline"));
    },
  );
  return viewer;
}

async function act(what, id, page) {
  $("notice").hidden = true;
  try {
    if (what === "view") await (await loadViewer()).open(id, page);
    else await jobs[what](id);
  } catch (error) {
    $("notice").textContent = error.message;
    $("notice").hidden = false;
  }
}

function showTitle() {
  const active = jobs.all().filter(jobs.isActive);
  const running = active.find((job) => job.state === "running");
  const percent = running ? `${Math.round(running.progress.percent)} % ` : "";
  const number = active.length.toLocaleString(language);
  document.title = active.length ? say("page.title.active", { percent, number }) : "OCR Tasks";
}

function onChange({ changed, before, removed, online, listed }) {
  if (changed) {
    list.show(changed, act);
    if (before && before.state !== changed.state) announce(`${changed.input.name}: ${words.state(changed)}`);
    const batch = batches.of(changed.id);
    if (batch) batches.show(batch);
    if (before && jobs.isActive(before) && !jobs.isActive(changed)) notices.ended(changed, (id) => act("view", id));
  }
  if (removed) {
    list.remove(removed);
    batches.forget(removed);
  }
  if (online !== undefined) $("connection").hidden = online;
  if (listed || removed) {
    $("empty").hidden = $("jobs").children.length > 0;
    $("older").hidden = !jobs.hasOlder();
  }
  showTitle();
  notices.show();
}

function acceptDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const curtain = $("curtain");
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = true;
    send(event.dataTransfer.files);
  });
  window.addEventListener("paste", (event) => send(event.clipboardData.files));
}

// Retries until the server has sent the options.
async function startOptions() {
  try {
    await options.start();
  } catch {
    setTimeout(startOptions, 3000);
  }
}

// Opens or closes the viewer after a link, Back or Forward.
function followAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const id = wanted.get("job");
  if (!id) viewer?.then((loaded) => loaded.close());
  else act("view", id, Number(wanted.get("page")) || 1);
}

// Loads jobs of batches that are not in the list yet; removes those that were deleted elsewhere.
async function completeBatches() {
  for (const id of batches.missing()) {
    await jobs.load(id).catch((error) => [404, 410].includes(error.status) && batches.forget(id));
  }
}

$("files").addEventListener("change", (event) => {
  send(event.target.files);
  event.target.value = ""; // the same file can be chosen again
});
$("send").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", followAddress);
window.addEventListener("beforeunload", (event) => isSending() && event.preventDefault());
$("older").addEventListener("click", () => jobs.older().catch((error) => announce(error.message)));
acceptDrops();
jobs.listen(onChange);
notices.start();
const showForm = () => {
  $("send").hidden = !session.may("submit");
};
await session.start("read", showForm).catch(() => null); // the list reports an unreachable server
await jobs.start(batches.start(act));
await startOptions();
if (location.hash) followAddress();
await completeBatches();
