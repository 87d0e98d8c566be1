-- Posts one body over and over, and writes what wrk measured as a line of JSON.
-- Arguments: the file with the body, its content type.

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.headers["content-type"] = arguments[2]
  wrk.body = file:read("*all")
  file:close()
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"p50_us":%d,"p95_us":%d,"requests":%d,"micros":%d,"failed":%d}\n',
    latency:percentile(50), latency:percentile(95), summary.requests, summary.duration, failed
  ))
end
