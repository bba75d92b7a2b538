// Resumable uploads with the tus protocol (https://tus.io). After a connection loss, an upload resumes
// from the last stored byte, also after the page was reloaded or the file was selected again.

import { ask, mustSignIn, Offline, parse, Problem, signInAgain } from "./api.js";
import { say } from "./texts.js";

// A proxy may discard an incomplete chunk, so chunks get smaller on an unreliable connection.
const LARGEST_CHUNK = 16 * 1024 * 1024;
const SMALLEST_CHUNK = 1024 * 1024;
const TUS = { "Tus-Resumable": "1.0.0" };

// Seconds to wait before a retry, and the maximum number of retries without progress.
const FIRST_WAIT = 1;
const LONGEST_WAIT = 30;
const MAX_BREAKS = 20;

// Milliseconds without progress or a response after which a connection counts as broken.
const SILENCE = 60_000;

// Statuses for which a retry can succeed; all others are reported at once.
const PASSING = new Set([408, 409, 423, 429, 460, 500, 502, 503, 504]);

// URLs of active uploads of this page. Two files must not be sent to the same one.
const busy = new Set();

// As in uploading.js: uploads files, then creates one job. Returns { done, abort }.
export function upload(files, fields, onProgress) {
  const stop = new AbortController();
  return { done: sendAll(files, fields, onProgress, stop.signal), abort: () => stop.abort() };
}

async function sendAll(files, fields, onProgress, signal) {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  const addresses = [];
  try {
    let before = 0;
    for (const file of files) {
      addresses.push(await address(file, signal));
      await patiently(addresses.at(-1), file, (bytes) => onProgress(Math.min((before + bytes) / total, 0.999)), signal);
      before += file.size;
    }
    onProgress(1);
    return await makeJob(addresses, fields, files);
  } catch (error) {
    if (signal.aborted) for (const each of addresses) drop(each);
    throw error;
  } finally {
    for (const each of addresses) busy.delete(each);
  }
}

// Returns the URL of a file's upload: an existing one, or a new one.
async function address(file, signal) {
  const known = recall(file);
  if (known && !busy.has(known) && (await isThere(known))) {
    busy.add(known);
    return known;
  }
  const name = btoa(String.fromCharCode(...new TextEncoder().encode(file.name)));
  const headers = { ...TUS, "Upload-Length": file.size, "Upload-Metadata": `filename ${name}` };
  const answer = await keepTrying(() => ask("/v1/uploads", { method: "POST", headers, signal }), signal);
  const made = answer.headers.get("Location");
  busy.add(made);
  remember(file, made);
  return made;
}

async function isThere(known) {
  try {
    await ask(known, { method: "HEAD", headers: TUS });
    return true;
  } catch (error) {
    return error instanceof Offline;
  }
}

// Sends a file from the offset that the server reports, with retries, until it is complete.
async function patiently(where, file, onBytes, signal) {
  let offset = 0;
  let known = false;
  let tries = 0;
  let size = LARGEST_CHUNK;
  while (!known || offset < file.size) {
    try {
      if (!known) {
        const answer = await ask(where, { method: "HEAD", headers: TUS, signal });
        const here = Number(answer.headers.get("Upload-Offset"));
        if (here > offset) tries = 0;
        offset = here;
        known = true;
        onBytes(offset);
        continue;
      }
      offset = await sendChunk(where, file.slice(offset, offset + size), offset, onBytes, signal);
      tries = 0;
      size = Math.min(size * 2, LARGEST_CHUNK);
    } catch (error) {
      known = false;
      size = Math.max(size / 2, SMALLEST_CHUNK);
      await maybeWait(error, tries++, signal);
    }
  }
}

async function keepTrying(act, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await act();
    } catch (error) {
      await maybeWait(error, tries, signal);
    }
  }
}

// Waits before a retry, until the connection is back at most. Throws if a retry cannot succeed.
function maybeWait(error, tries, signal) {
  if (signal?.aborted) throw new DOMException("aborted", "AbortError");
  const passing = error instanceof Offline || PASSING.has(error.status);
  if (!passing || tries >= MAX_BREAKS) throw error;
  const seconds = Math.min(FIRST_WAIT * 2 ** tries, LONGEST_WAIT) * (0.75 + Math.random() / 2);
  return new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    window.addEventListener("online", resolve, { once: true });
    signal?.addEventListener("abort", resolve, { once: true });
  });
}

// XMLHttpRequest, because fetch does not report upload progress.
function sendChunk(where, chunk, offset, onBytes, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const broke = () => reject(new Offline(say("send.broken_pieces")));
    const abort = () => request.abort();
    let silence = 0;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => {
        broke();
        request.abort();
      }, SILENCE);
    };
    signal.addEventListener("abort", abort);
    request.open("PATCH", where);
    for (const [name, value] of Object.entries(TUS)) request.setRequestHeader(name, value);
    request.setRequestHeader("Upload-Offset", offset);
    request.setRequestHeader("Content-Type", "application/offset+octet-stream");
    request.upload.onprogress = (event) => {
      listen();
      onBytes(offset + event.loaded);
    };
    request.onload = () => {
      if (request.status === 204) resolve(Number(request.getResponseHeader("Upload-Offset")));
      else if (mustSignIn(request.status)) signInAgain().then(() => resolve(offset), reject);
      else reject(new Problem(request.status, parse(request.responseText)));
    };
    request.onerror = broke;
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    request.onloadend = () => {
      clearTimeout(silence);
      signal.removeEventListener("abort", abort);
    };
    listen();
    request.send(chunk);
  });
}

// The Idempotency-Key prevents a second job if a response is lost.
async function makeJob(addresses, fields, files) {
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const headers = { "Idempotency-Key": key };
  const form = () => {
    const body = new FormData();
    for (const [name, value] of fields) body.append(name, value);
    for (const each of addresses) body.append("upload", each);
    return body;
  };
  const answer = await keepTrying(() => ask("/v1/jobs", { method: "POST", headers, body: form() }));
  files.forEach(forget);
  return answer.json();
}

function drop(where) {
  ask(where, { method: "DELETE", headers: TUS }).catch(() => null); // otherwise it expires
}

// Uploads are stored per tab, until it is closed.
const keyOf = (file) => `upload ${file.size} ${file.lastModified} ${file.name}`;

function remember(file, where) {
  try {
    sessionStorage.setItem(keyOf(file), where);
  } catch {
    // Storage is disabled: after a reload, the upload starts from the beginning.
  }
}

function recall(file) {
  try {
    return sessionStorage.getItem(keyOf(file));
  } catch {
    return null;
  }
}

function forget(file) {
  try {
    sessionStorage.removeItem(keyOf(file));
  } catch {
    // Storage is disabled.
  }
}
