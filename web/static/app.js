// Puts the parts of the page together.

import { Offline, upload } from "./api.js";
import { ask } from "./asking.js";
import * as batches from "./batches.js";
import * as jobs from "./jobs.js";
import * as list from "./list.js";
import * as notices from "./notices.js";
import * as options from "./options.js";
import { button, byName, row as emptyRow, takeAway } from "./rows.js";
import * as session from "./session.js";
import { count, language, say } from "./texts.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

// For those who cannot see the list change.
const announce = (text) => {
  $("status").textContent = text;
};

async function send(files) {
  const chosen = [...files].sort((a, b) => byName(a.name, b.name));
  if (!chosen.length || !session.may("submit")) return;
  if (chosen.length === 1) return sendOne(chosen);
  const title = say("send.many.title", { number: chosen.length.toLocaleString(language) });
  const words = say("send.many.words", { first: chosen[0].name, last: chosen.at(-1).name });
  const answers = [["each", say("send.many.each")], ["one", say("send.many.one")]];
  const wanted = await ask(title, words, answers);
  if (wanted === "one") sendOne(chosen);
  if (wanted !== "each") return;
  const batch = batches.begin();
  chosen.forEach((file) => sendOne([file], batch));
}

// One after another, two at a time: a hundred at once would leave no connection for the rest.
const MOST_UPLOADS = 2;
const waiting = [];
let uploading = 0;

function whenFree(begin) {
  waiting.push(begin);
  beginNext();
}

function beginNext() {
  while (uploading < MOST_UPLOADS && waiting.length) {
    uploading += 1;
    waiting.shift()().finally(() => {
      uploading -= 1;
      beginNext();
    });
  }
}

// Sends files as one document, which may belong to a batch.
function sendOne(files, batch) {
  const [{ name: first }] = files;
  const name = files.length > 1 ? count("send.and_more", files.length - 1, { name: first }) : first;
  const row = emptyRow(name);
  list.addFirst(row.item, batch);
  if (batch) batches.sending(batch, row);
  const done = (job) => {
    if (batch) batches.sent(batch, row, job);
    if (job) jobs.put(job);
  };
  $("empty").hidden = true;
  const empty = files.find((file) => file.size === 0);
  if (empty) {
    refuse(row, name, say("send.empty", { name: empty.name }), null, done);
    done(null);
    return;
  }
  row.facts.textContent = words.size(files.reduce((sum, file) => sum + file.size, 0));
  row.said.textContent = say("send.waiting");
  const fields = options.fields(); // as chosen now, not when its turn comes
  let dropped = false;
  let abort = () => {
    dropped = true;
    takeAway(row.item);
    done(null);
  };
  const retry = () => sendOne(files, batch);
  row.actions.append(button(say("jobs.cancel"), name, () => abort()));
  const begin = () => transfer(files, fields, row, name, (stop) => (abort = stop), retry, done).then(done);
  whenFree(() => (dropped ? Promise.resolve() : begin()));
}

// Gives the job, or null if there is none.
function transfer(files, fields, row, name, onAbort, retry, done) {
  const sending = upload(files, fields, (part) => {
    row.setPercent(part * 100);
    row.said.textContent = say("send.uploading", { percent: Math.floor(part * 100) });
    if (part < 1) return;
    // From here on the server makes a job of it, which has a Cancel of its own.
    row.said.textContent = say("send.uploaded");
    row.actions.replaceChildren();
  });
  onAbort(sending.abort);
  return sending.done.then(
    (job) => {
      row.item.remove();
      announce(say("send.sent", { name }));
      return job;
    },
    (error) => {
      if (error.name === "AbortError") takeAway(row.item);
      else refuse(row, name, error.message, error instanceof Offline || error.status >= 500 ? retry : null, done);
      return null;
    },
  );
}

function refuse(row, name, reason, retry, done) {
  row.item.className = "job failed";
  row.bar.hidden = true;
  row.said.textContent = reason;
  row.item.closest("details")?.setAttribute("open", "");
  announce(`${name}: ${reason}`);
  const away = () => {
    takeAway(row.item);
    done(null);
  };
  const again = () => {
    away();
    retry();
  };
  const dismiss = button(say("send.dismiss"), name, away);
  row.actions.replaceChildren(...(retry ? [button(say("send.again"), name, again)] : []), dismiss);
}

// What shows pages is loaded when it is first wanted.
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
    if (what === "read") await (await loadViewer()).open(id, page);
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
    if (before && jobs.isActive(before) && !jobs.isActive(changed)) notices.ended(changed, (id) => act("read", id));
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

// Until the server has told them there is nothing to choose from.
async function startOptions() {
  try {
    await options.start();
  } catch {
    setTimeout(startOptions, 3000);
  }
}

// Leads to a document, and away from it: links and the browser's Back and Forward.
function followAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const id = wanted.get("job");
  if (!id) viewer?.then((loaded) => loaded.close());
  else act("read", id, Number(wanted.get("page")) || 1);
}

// What a batch is missing is further down in the list, or was deleted elsewhere.
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
window.addEventListener("beforeunload", (event) => uploading && event.preventDefault());
$("older").addEventListener("click", () => jobs.older().catch((error) => announce(error.message)));
acceptDrops();
jobs.listen(onChange);
notices.start();
const showForm = () => {
  $("send").hidden = !session.may("submit");
};
await session.start("read", showForm).catch(() => null); // who cannot be reached is said by the list
await jobs.start(batches.start(act));
await startOptions();
if (location.hash) followAddress();
await completeBatches();
