// A device of the swarm: leases pages from the server, runs OCR, and uploads transcripts. It is
// independent of the page. ocr_tasks/swarm/device.py does the same for the command line.

import { Offline, ask, json } from "../api.js";
import { IMAGES, NotLoaded, Recognizer } from "./recognizer.js";
import { say } from "../texts.js";

// First and longest wait in seconds before a retry if the server cannot be reached.
const FIRST_WAIT = 1;
const LONGEST_WAIT = 60;

// Number of times that Tesseract can fail to load before the device leaves.
const MAX_UNLOADED = 5;

const RECENT = 8;

// Longest and shortest period in minutes for the pace.
const MINUTES_OF_PACE = 5;
const EARLIEST_PACE = 0.3;

// Whether a retry can succeed.
const passing = (error) => error instanceof Offline || error.status >= 500 || error.status === 429;
const between = (least, most) => least + Math.random() * (most - least);
// keepalive: the request is sent even if the page is being closed.
const release = (lease) => fetch(lease.release, { method: "POST", keepalive: true }).catch(() => null);
const post = (address, body) =>
  ask(address, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

// The body of a response; the connection can break before it is complete.
const bodyOf = (body) =>
  body.catch(() => {
    throw new Offline(say("server.offline"));
  });

export class Device {
  // State for the page
  pages = 0;
  failed = 0;
  lost = 0;
  recent = []; // { name, seconds, words }, newest first
  slots = []; // { lease, name, progress }: one for each worker; lease null: idle, progress null: loading
  joined = false;
  pausedBy = null; // the reason for the pause
  offline = false;
  without = null; // whether the last response contained no page; null: no response yet
  refused = ""; // why the server rejected the device
  peer = null; // another server that may have pages

  #name;
  #languages;
  #tell;
  #workers = 1;
  #ends = []; // times when pages were done, for the pace
  #since = 0;
  #unloaded = 0;
  #wake = () => {};
  #left = null; // AbortController, aborted when the device leaves

  // `tell` is called after each change.
  constructor(languages, tell) {
    this.#languages = languages;
    this.#tell = tell;
  }

  join(name, workers) {
    if (this.joined) return;
    this.#name = name;
    this.#workers = workers;
    this.#left = new AbortController();
    this.#since = Date.now();
    this.#ends = [];
    this.#unloaded = 0;
    Object.assign(this, { joined: true, offline: false, without: null, refused: "", peer: null });
    this.#run(this.#left.signal);
    this.#renew(this.#left.signal);
    this.#tell();
  }

  // Leaves the swarm and releases all leases. Can be called while the page is being closed.
  leave() {
    if (!this.joined) return;
    this.joined = false;
    this.#left.abort();
    for (const slot of this.slots) {
      slot.recognizer.end();
      if (slot.lease) release(slot.lease);
    }
    this.slots = [];
    this.#wake();
    this.#tell();
  }

  // Leases no pages while `reason` is set; current pages are finished.
  pause(reason) {
    if (this.pausedBy === reason) return;
    this.pausedBy = reason;
    this.#wake();
    this.#tell();
  }

  rename(name) {
    this.#name = name;
  }

  // Sets the number of workers. Surplus workers finish their page first.
  use(workers) {
    this.#workers = workers;
    this.#wake();
  }

  #leaveSince(reason) {
    this.refused = reason;
    this.leave();
  }

  get busy() {
    return this.slots.filter((slot) => slot.lease).length;
  }

  // Pages per minute over the last minutes; null: too early.
  get pace() {
    const now = Date.now();
    this.#ends = this.#ends.filter((end) => now - end < MINUTES_OF_PACE * 60_000);
    const minutes = Math.min(MINUTES_OF_PACE, (now - this.#since) / 60_000);
    return this.joined && this.#ends.length && minutes > EARLIEST_PACE ? this.#ends.length / minutes : null;
  }

  async #run(left) {
    let pause = FIRST_WAIT;
    while (!left.aborted) {
      this.#fit();
      const free = this.slots.filter((slot) => !slot.lease);
      if (this.pausedBy || !free.length) {
        await this.#rest(left, Infinity);
        continue;
      }
      let seconds;
      try {
        const answer = await this.#ask(free.length);
        if (left.aborted) {
          answer.pages.forEach(release);
          return;
        }
        Object.assign(this, { offline: false, without: !answer.pages.length, peer: answer.peer });
        pause = FIRST_WAIT;
        answer.pages.forEach((lease, index) => this.#do(free[index], lease, left));
        seconds = answer.pages.length ? 0 : answer.retry_after * between(1, 1.5);
      } catch (error) {
        if (left.aborted) return;
        if (!passing(error)) {
          this.#leaveSince(error.message);
          return;
        }
        this.offline = error instanceof Offline;
        seconds = pause * between(0.5, 1);
        pause = Math.min(LONGEST_WAIT, pause * 2);
      }
      this.#tell();
      if (seconds) await this.#rest(left, seconds);
    }
  }

  async #ask(count) {
    const answer = await post("/v1/swarm/leases", {
      device: this.#name,
      languages: this.#languages,
      formats: ["hocr"],
      images: IMAGES,
      count,
    });
    return bodyOf(answer.json());
  }

  #fit() {
    while (this.slots.length < this.#workers) {
      this.slots.push({ recognizer: new Recognizer(), lease: null, name: null, progress: null });
    }
    for (const slot of this.slots.slice(this.#workers)) if (!slot.lease) slot.recognizer.end();
    this.slots = this.slots.filter((slot, index) => index < this.#workers || slot.lease);
  }

  // One page

  async #do(slot, lease, left) {
    const began = Date.now();
    lease.renewAt = began + (lease.seconds / 3) * 1000;
    Object.assign(slot, { lease, name: lease.name, progress: null });
    try {
      const image = await this.#insist(left, async () => bodyOf((await ask(lease.image)).blob()));
      // The type is set explicitly, because the browser might detect another one.
      const typed = new Blob([image], { type: lease.media_type });
      const found = await slot.recognizer.recognize(typed, lease.languages, lease.dpi, (part) => {
        slot.progress = part;
        this.#tell();
      });
      checkSize(found.hocr, lease);
      slot.progress = 1;
      await this.#insist(left, () =>
        ask(lease.transcript, {
          method: "PUT",
          headers: { "Content-Type": "text/vnd.hocr+html" },
          body: found.hocr,
        }),
      );
      this.pages += 1;
      this.#unloaded = 0;
      this.#ends.push(Date.now());
      this.recent.unshift({ name: lease.name, seconds: (Date.now() - began) / 1000, words: found.words });
      this.recent.length = Math.min(this.recent.length, RECENT);
    } catch (error) {
      if (left.aborted) return;
      // 404, 409 and 410: the lease was lost, or the page is not needed anymore.
      if ([404, 409, 410].includes(error.status)) this.lost += 1;
      else if (error instanceof NotLoaded) await this.#withoutTesseract(left, lease, error);
      else await this.#giveUp(left, lease, error);
    }
    if (left.aborted) return;
    Object.assign(slot, { lease: null, name: null, progress: null });
    this.#wake();
    this.#tell();
  }

  // Reports a failure. Other devices may succeed.
  async #giveUp(left, lease, error) {
    this.failed += 1;
    const body = { reason: `in a browser: ${error.message}`.slice(0, 300) };
    await this.#insist(left, () => post(lease.failure, body)).catch(() => null);
  }

  // Releases the page without a failure, because the page is not the cause.
  async #withoutTesseract(left, lease, error) {
    release(lease);
    this.#unloaded += 1;
    if (this.#unloaded >= MAX_UNLOADED) this.#leaveSince(say("swarm.no_tesseract", { reason: error.message }));
    else await wait(left, FIRST_WAIT * 2 ** this.#unloaded);
  }

  // Repeats a request until it succeeds; returns its result.
  async #insist(left, request) {
    let pause = FIRST_WAIT;
    while (true) {
      left.throwIfAborted();
      try {
        const answer = await request();
        this.offline = false;
        return answer;
      } catch (error) {
        if (!passing(error)) throw error;
        this.offline = error instanceof Offline;
        this.#tell();
      }
      await wait(left, pause * between(0.5, 1));
      pause = Math.min(LONGEST_WAIT, pause * 2);
    }
  }

  // All leased pages

  async #renew(left) {
    while (!left.aborted) {
      await wait(left, 2);
      for (const { lease } of this.slots) {
        if (!lease || Date.now() < lease.renewAt) continue;
        lease.renewAt = Date.now() + (lease.seconds / 3) * 1000;
        json(lease.renew, { method: "POST" }).catch(() => null); // uploading the transcript reports a lost lease
      }
    }
  }

  // Resolves after the next event, or after `seconds`.
  #rest(left, seconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (seconds !== Infinity) wait(left, seconds).then(resolve);
    });
  }
}

function wait(left, seconds) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(alarm);
      left.removeEventListener("abort", over);
      resolve();
    };
    const alarm = setTimeout(over, seconds * 1000);
    left.addEventListener("abort", over);
    if (left.aborted) over();
  });
}

// The server rejects transcripts with another page size. Failing here releases the page at once.
function checkSize(hocr, lease) {
  const [, width, height] = hocr.match(/class=['"]ocr_page['"][^>]*bbox 0 0 (\d+) (\d+)/) || [];
  if (Number(width) !== lease.width || Number(height) !== lease.height) {
    throw new Error(`the transcript is for ${width} by ${height} pixels, not ${lease.width} by ${lease.height}`);
  }
}
