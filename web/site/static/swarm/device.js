// A device of the swarm: takes pages from the server, has them read, and answers. It knows nothing
// of the page that shows it; ocr_tasks/swarm/device.py is the same for the command line.

import { Offline, ask, json } from "../api.js";
import { IMAGES, NotLoaded, Reader } from "./reader.js";
import { say } from "../texts.js";

// Seconds after which a server that cannot be reached is asked again, at first and at most.
const AGAIN_FIRST = 1;
const AGAIN_MOST = 60;

// Times that Tesseract may fail to start, before the device leaves.
const MOST_UNLOADED = 5;

const RECENT = 8;

// Minutes of which the pace is told, at most and at least.
const MINUTES_OF_PACE = 5;
const EARLIEST_PACE = 0.3;

// Whether it is worth trying again.
const passing = (error) => error instanceof Offline || error.status >= 500 || error.status === 429;
const between = (least, most) => least + Math.random() * (most - least);
// Works even where the page is about to go.
const release = (lease) => fetch(lease.release, { method: "POST", keepalive: true }).catch(() => null);
const post = (address, body) =>
  ask(address, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

// The body of an answer; the connection may break within it.
const bodyOf = (body) =>
  body.catch(() => {
    throw new Offline(say("server.offline"));
  });

export class Device {
  // What a page shows of it.
  pages = 0;
  failed = 0;
  lost = 0;
  recent = []; // { name, seconds, words }, the last one first
  slots = []; // { lease, name, progress }: one for each worker; lease null: idle, progress null: loading
  joined = false;
  pausedBy = null; // why it takes no pages for now
  offline = false;
  without = null; // whether the server had no page at last; null: not yet asked
  refused = ""; // why the server wants nothing of it
  peer = null; // another server that may have pages

  #name;
  #languages;
  #tell;
  #workers = 1;
  #ends = []; // when pages were done, for the pace
  #since = 0;
  #unloaded = 0;
  #wake = () => {};
  #left = null; // AbortController of the present stay

  // `tell` is called whenever something has changed.
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

  // Gives back at once what is not read. May be called when the page is about to go.
  leave() {
    if (!this.joined) return;
    this.joined = false;
    this.#left.abort();
    for (const slot of this.slots) {
      slot.reader.end();
      if (slot.lease) release(slot.lease);
    }
    this.slots = [];
    this.#wake();
    this.#tell();
  }

  // Takes no pages while there is a reason; those that it has are read.
  pause(reason) {
    if (this.pausedBy === reason) return;
    this.pausedBy = reason;
    this.#wake();
    this.#tell();
  }

  rename(name) {
    this.#name = name;
  }

  // Workers that are too many go when they have read their page.
  use(workers) {
    this.#workers = workers;
    this.#wake();
  }

  #leaveSince(reason) {
    this.refused = reason;
    this.leave();
  }

  get reading() {
    return this.slots.filter((slot) => slot.lease).length;
  }

  // Pages a minute, over the last few minutes; null: too early to tell.
  get pace() {
    const now = Date.now();
    this.#ends = this.#ends.filter((end) => now - end < MINUTES_OF_PACE * 60_000);
    const minutes = Math.min(MINUTES_OF_PACE, (now - this.#since) / 60_000);
    return this.joined && this.#ends.length && minutes > EARLIEST_PACE ? this.#ends.length / minutes : null;
  }

  async #run(left) {
    let pause = AGAIN_FIRST;
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
        pause = AGAIN_FIRST;
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
        pause = Math.min(AGAIN_MOST, pause * 2);
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
      this.slots.push({ reader: new Reader(), lease: null, name: null, progress: null });
    }
    for (const slot of this.slots.slice(this.#workers)) if (!slot.lease) slot.reader.end();
    this.slots = this.slots.filter((slot, index) => index < this.#workers || slot.lease);
  }

  // One page

  async #do(slot, lease, left) {
    const began = Date.now();
    lease.renewAt = began + (lease.seconds / 3) * 1000;
    Object.assign(slot, { lease, name: lease.name, progress: null });
    try {
      const image = await this.#insist(left, async () => bodyOf((await ask(lease.image)).blob()));
      // What it is does not depend on what a browser takes it for.
      const typed = new Blob([image], { type: lease.media_type });
      const found = await slot.reader.read(typed, lease.languages, lease.dpi, (part) => {
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
      // 404, 409 and 410: it is somebody else's by now, or nobody wants it.
      if ([404, 409, 410].includes(error.status)) this.lost += 1;
      else if (error instanceof NotLoaded) await this.#withoutReader(left, lease, error);
      else await this.#giveUp(left, lease, error);
    }
    if (left.aborted) return;
    Object.assign(slot, { lease: null, name: null, progress: null });
    this.#wake();
    this.#tell();
  }

  // Whatever it is, others may be able to read the page.
  async #giveUp(left, lease, error) {
    this.failed += 1;
    const body = { reason: `in a browser: ${error.message}`.slice(0, 300) };
    await this.#insist(left, () => post(lease.failure, body)).catch(() => null);
  }

  // It is not the page's fault, so that it goes back as it was.
  async #withoutReader(left, lease, error) {
    release(lease);
    this.#unloaded += 1;
    if (this.#unloaded >= MOST_UNLOADED) this.#leaveSince(say("swarm.no_tesseract", { reason: error.message }));
    else await wait(left, AGAIN_FIRST * 2 ** this.#unloaded);
  }

  // What a request gives, after as many tries as it takes.
  async #insist(left, request) {
    let pause = AGAIN_FIRST;
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
      pause = Math.min(AGAIN_MOST, pause * 2);
    }
  }

  // All pages that are open

  async #renew(left) {
    while (!left.aborted) {
      await wait(left, 2);
      for (const { lease } of this.slots) {
        if (!lease || Date.now() < lease.renewAt) continue;
        lease.renewAt = Date.now() + (lease.seconds / 3) * 1000;
        json(lease.renew, { method: "POST" }).catch(() => null); // what comes of it the answer will tell
      }
    }
  }

  // Until something happens, or so many seconds are over.
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

// The server refuses what is of another size; said here, the page is free again at once.
function checkSize(hocr, lease) {
  const [, width, height] = hocr.match(/class=['"]ocr_page['"][^>]*bbox 0 0 (\d+) (\d+)/) || [];
  if (Number(width) !== lease.width || Number(height) !== lease.height) {
    throw new Error(`was read as ${width} by ${height} pixels, not ${lease.width} by ${lease.height}`);
  }
}
