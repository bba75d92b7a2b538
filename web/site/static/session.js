// Signing in with a token, where the server asks for one. The browser keeps it in a cookie that no
// script can read, so that images, downloads and event streams carry it as well.

import { json, whenRefused } from "./api.js";
import { problem, say } from "./texts.js";

const $ = (id) => document.getElementById(id);
const dialog = $("sign-in");

let who = null; // as the server sees us: /v1/session
let signing = null; // the sign-in under way, for all who wait for it
let done = null;
let changed = () => {};
let needed = "read"; // the scope without which the page is of no use

export const may = (scope) => !who || who.scopes.includes(scope) || who.scopes.includes("admin");

// `scope` is the one without which the page is of no use; `onChange` hears when another one asks.
export async function start(scope = "read", onChange = () => {}) {
  needed = scope;
  changed = onChange;
  whenRefused(signIn);
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("sign-out").addEventListener("click", signOut);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => signing && dialog.showModal()); // browsers heed a second Escape
  const body = await json("/v1/session");
  if (has(body)) return show(body);
  complain(lacking());
  return signIn();
}

const has = (body) => body.scopes.some((scope) => scope === needed || scope === "admin");
const lacking = () => say(`sign_in.lacking.${needed}`);

// Asks for a token; whoever calls this meanwhile waits for the same answer.
function signIn() {
  signing ??= new Promise((resolve) => {
    done = resolve;
    dialog.showModal();
    $("token").focus();
  });
  return signing;
}

async function send() {
  const button = $("sign-in-button");
  button.disabled = true;
  complain("");
  try {
    const answer = await fetch("/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: $("token").value.trim() }),
    });
    const body = await answer.json();
    if (answer.ok) await enter(body);
    else complain(answer.status === 401 ? say("sign_in.invalid") : problem(body.code, body.advice));
  } catch {
    complain(say("sign_in.offline"));
  } finally {
    button.disabled = false;
  }
}

async function enter(body) {
  if (!has(body)) {
    await fetch("/v1/session", { method: "DELETE" });
    complain(lacking());
    return;
  }
  if (who && who.token !== body.token) {
    location.reload(); // nothing of somebody else's documents stays on the page
    return;
  }
  show(body);
  signing = null;
  $("token").value = "";
  dialog.close();
  done();
}

function complain(text) {
  $("sign-in-error").textContent = text;
  $("sign-in-error").hidden = !text;
  if (text) $("token").select();
}

function show(body) {
  who = body;
  $("who").textContent = who.name;
  $("who").hidden = $("sign-out").hidden = !who.by_cookie;
  changed();
}

async function signOut() {
  await fetch("/v1/session", { method: "DELETE" }).catch(() => null);
  location.reload();
}
