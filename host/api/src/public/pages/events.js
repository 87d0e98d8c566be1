// Event streams (SSE) read with `fetch`, because `EventSource` cannot send the API key.

import { request, Refusal } from "./service.js";

// The service sends a comment every 15 s: a longer silence is a lost connection.
const LONGEST_SILENCE_MS = 40_000;
const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;

/**
 * Parser of an event stream, by the HTML standard, "Interpreting an event stream". Chunks of text may
 * be split anywhere.
 */
export class EventParser {
  #line = "";
  #endsWithReturn = false; // A line feed at the begin of the next chunk belongs to the last line.
  #data = [];
  #kind = "";
  #id = "";

  /** Calls `receive` with each event: `id`, `kind` and `data`. */
  constructor(receive) {
    this.receive = receive;
  }

  push(chunk) {
    if (chunk === "") return;
    const text = this.#endsWithReturn && chunk[0] === "\n" ? chunk.slice(1) : chunk;
    this.#endsWithReturn = chunk.endsWith("\r");
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = lines.pop();
    lines.forEach((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return; // A comment.
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#kind = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #dispatch() {
    const event = { id: this.#id, kind: this.#kind || "message", data: this.#data.join("\n") };
    const hasData = this.#data.length > 0;
    [this.#data, this.#kind] = [[], ""];
    if (hasData) this.receive(event);
  }
}

/** Reads a stream to its end. Throws a `Refusal` if it is refused, lost or silent for too long. */
export async function readEvents(path, { headers, signal, receive, alive }) {
  const stop = new AbortController();
  const abort = () => stop.abort();
  signal.addEventListener("abort", abort);
  let silence = 0;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(abort, LONGEST_SILENCE_MS);
  };
  heard();
  try {
    const response = await request(path, { headers: { accept: "text/event-stream", ...headers }, signal: stop.signal, cache: "no-store" });
    alive();
    const parser = new EventParser(receive);
    const decoder = new TextDecoder(); // Drops a byte order mark and joins characters that chunks split.
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      heard();
      parser.push(decoder.decode(part.value, { stream: true }));
    }
  } catch (cause) {
    throw cause instanceof Refusal ? cause : new Refusal("The connection was lost");
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", abort);
    abort();
  }
}

/** Returns true if the same request will be refused again: it is wrong, or the key is. */
export const isFinal = ({ status }) => status >= 400 && status < 500 && status !== 408 && status !== 429;

/**
 * Repeats a task until `signal` aborts, with growing delays. The task calls its argument once it is
 * connected. `lost` is called before each delay. Throws a `Refusal` that is final.
 */
export async function keepConnected(task, { signal, lost }) {
  let failures = 0;
  while (!signal.aborted) {
    let retryAfter = 0;
    try {
      await task(() => { failures = 0; });
    } catch (refusal) {
      if (signal.aborted) return;
      if (!(refusal instanceof Refusal) || isFinal(refusal)) throw refusal;
      retryAfter = refusal.retryAfter;
    }
    if (signal.aborted) return;
    lost();
    const delay = Math.min(FIRST_DELAY_MS * 2 ** failures, LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
    failures += 1;
    await pause(Math.max(delay, 1000 * retryAfter), signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
