// Sends console output and exceptions to the host's log, because the host itself sees an exception
// only as `unreachable`.

// Converts any value to text. Never throws, because logging must not make a policy fail.
function text(value) {
  if (typeof value === "string" || typeof value === "bigint") return String(value);
  try {
    if (value instanceof Error) return describe(value);
    const json = JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? String(inner) : inner));
    return json ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

// Returns an exception with its stack frames, the innermost first, and its cause.
function describe(error) {
  const frames = String(error.stack ?? "").trim().split("\n").map((frame) => frame.trim());
  const where = frames.filter((frame) => frame !== String(error)).slice(0, 6);
  const cause = error.cause === undefined ? "" : `; caused by ${text(error.cause)}`;
  return `${error} (${where.join(", ")})${cause}`;
}

// Redirects the console to `log`, which is the host's `telemetry.log`, and wraps the functions so
// that exceptions are logged before the component fails.
export function logErrors(log, functions) {
  const line = (level) => (...values) => log(level, values.map(text).join(" "));
  Object.assign(console, { log: line("info"), info: line("info"), debug: line("debug"), warn: line("warn"), error: line("warn") });
  const logging = (work) => (...args) => {
    try {
      return work(...args);
    } catch (error) {
      // JavaScript can throw any value, not only an Error.
      log("warn", error instanceof Error ? text(error) : `exception: ${text(error)}`);
      throw error;
    }
  };
  return Object.fromEntries(Object.entries(functions).map(([name, work]) => [name, logging(work)]));
}
