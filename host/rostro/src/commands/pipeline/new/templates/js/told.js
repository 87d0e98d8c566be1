// What the component writes, and how it fails, for the host's log: without this an exception is only `unreachable` there.

// Any value as text. Never throws: what a policy logs must not make it fail.
function text(value) {
  if (typeof value === "string" || typeof value === "bigint") return String(value);
  try {
    if (value instanceof Error) return described(value);
    const json = JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? String(inner) : inner));
    return json ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

// An exception with its cause and the places that it came through, the innermost first.
function described(error) {
  const frames = String(error.stack ?? "").trim().split("\n").map((frame) => frame.trim());
  const where = frames.filter((frame) => frame !== String(error)).slice(0, 6);
  const cause = error.cause === undefined ? "" : `; caused by ${text(error.cause)}`;
  return `${error} (${where.join(", ")})${cause}`;
}

// `log` is the host's `telemetry.log`.
export function told(log, functions) {
  const line = (level) => (...values) => log(level, values.map(text).join(" "));
  Object.assign(console, { log: line("info"), info: line("info"), debug: line("debug"), warn: line("warn"), error: line("warn") });
  const guarded = (work) => (...args) => {
    try {
      return work(...args);
    } catch (error) {
      // Anything can be thrown, not only an Error.
      log("warn", error instanceof Error ? text(error) : `exception: ${text(error)}`);
      throw error;
    }
  };
  return Object.fromEntries(Object.entries(functions).map(([name, work]) => [name, guarded(work)]));
}
