// Uploads files: asks whether several become one document, queues them, and shows their progress.

import { announce } from "./announcing.js";
import { Offline } from "./api.js";
import { ask } from "./asking.js";
import * as batches from "./batches.js";
import * as jobs from "./jobs.js";
import * as list from "./list.js";
import * as options from "./options.js";
import { button, byName, row as emptyRow, takeAway } from "./rows.js";
import * as session from "./session.js";
import { count, language, say } from "./texts.js";
import { upload } from "./uploading.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);

export async function send(files) {
  const chosen = [...files].sort((a, b) => byName(a.name, b.name));
  if (!chosen.length || !session.may("submit")) return;
  if (chosen.length === 1) return sendOne(chosen);
  const title = say("send.many.title", { number: chosen.length.toLocaleString(language) });
  const range = say("send.many.words", { first: chosen[0].name, last: chosen.at(-1).name });
  const answers = [["each", say("send.many.each")], ["one", say("send.many.one")]];
  const wanted = await ask(title, range, answers);
  if (wanted === "one") sendOne(chosen);
  if (wanted !== "each") return;
  const batch = batches.begin();
  chosen.forEach((file) => sendOne([file], batch));
}

// At most two uploads run in parallel. More would leave no connection for other requests.
const MAX_UPLOADS = 2;
const waiting = [];
let uploading = 0;

export const isSending = () => uploading > 0;

function whenFree(begin) {
  waiting.push(begin);
  beginNext();
}

function beginNext() {
  while (uploading < MAX_UPLOADS && waiting.length) {
    uploading += 1;
    waiting.shift()().finally(() => {
      uploading -= 1;
      beginNext();
    });
  }
}

// Uploads files as one document, optionally as part of a batch.
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
  const fields = options.fields(); // as selected now, not when the upload starts
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

// Resolves to the job, or to null if there is none.
function transfer(files, fields, row, name, onAbort, retry, done) {
  const sending = upload(files, fields, (part) => {
    row.setPercent(part * 100);
    row.said.textContent = say("send.uploading", { percent: Math.floor(part * 100) });
    if (part < 1) return;
    // Now the server creates a job, which has its own Cancel button.
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
