// Requests to the server. Error responses become a Problem with a readable message.

import { say } from "./texts.js";
import { reason } from "./words.js";

export class Problem extends Error {
  constructor(status, body) {
    const message = body.detail || body.title || say("server.answered", { status });
    super(reason({ code: body.code, message, advice: body.advice }));
    this.status = status;
    this.code = body.code || "unknown";
  }
}

// The server cannot be reached; a later retry may succeed.
export class Offline extends Error {}

// Called when the server requires a token; the request is repeated after the sign-in.
let signIn = null;
export const whenRefused = (callback) => {
  signIn = callback;
};
export const mustSignIn = (status) => status === 401 && signIn !== null;
export const signInAgain = () => signIn();

export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Offline(say("server.offline"));
  }
  if (answer.ok) return answer;
  if (mustSignIn(answer.status)) {
    await signIn();
    return ask(address, options);
  }
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

export const json = async (address, options) => (await ask(address, options)).json();
export const text = async (address) => (await ask(address)).text();

export function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return {};
  }
}
