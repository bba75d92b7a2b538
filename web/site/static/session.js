// Sign-in with a token, if the server requires one. The token is kept in an HttpOnly cookie, which is
// also sent with images, downloads and event streams.

import { json, whenRefused } from "./api.js";
import { problem, say } from "./texts.js";

const $ = (id) => document.getElementById(id);
const dialog = $("sign-in");

let who = null; // the response of /v1/session
let signing = null; // promise of the current sign-in
let done = null;
let changed = () => {};
let needed = "read"; // the scope that the page requires

export const may = (scope) => !who || who.scopes.includes(scope) || who.scopes.includes("admin");

// `scope` is required by the page; `onChange` is called when the token changes.
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
  dialog.addEventListener("close", () => signing && dialog.showModal()); // a second Escape closes it
  const body = await json("/v1/session");
  if (has(body)) return show(body);
  complain(lacking());
  return signIn();
}

const has = (body) => body.scopes.some((scope) => scope === needed || scope === "admin");
const lacking = () => say(`sign_in.lacking.${needed}`);

// Opens the sign-in dialog; concurrent calls share the same promise.
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
    location.reload(); // removes the documents of the previous token from the page
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
