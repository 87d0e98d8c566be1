// What the component writes, and how it fails, for the host's log: without this an exception is only `unreachable` there.

// `log` is the host's `telemetry.log`.
export function told(log, functions) {
  const text = (value) => (typeof value === "string" ? value : (JSON.stringify(value) ?? String(value)));
  const line = (level) => (...values) => log(level, values.map(text).join(" "));
  Object.assign(console, { log: line("info"), info: line("info"), debug: line("debug"), warn: line("warn"), error: line("warn") });
  const guarded = (work) => (...args) => {
    try {
      return work(...args);
    } catch (error) {
      const where = String(error?.stack ?? "").trim().split("\n").slice(0, 6);
      log("warn", `${error} (${where.map((frame) => frame.trim()).join(", ")})`);
      throw error;
    }
  };
  return Object.fromEntries(Object.entries(functions).map(([name, work]) => [name, guarded(work)]));
}
