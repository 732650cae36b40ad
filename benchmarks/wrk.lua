-- Sends the prepared requests of a file in turn. The file: a path, a key and a body a line, by tabs.
local requests = {}
local at = 0

function init(args)
  for line in io.lines(args[1]) do
    local path, key, body = line:match("^(.-)\t(.-)\t(.*)$")
    local headers = {["Authorization"] = "Bearer " .. key, ["Content-Type"] = "application/json"}
    requests[#requests + 1] = wrk.format("POST", path, headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  print(string.format('{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}',
    summary.requests, summary.duration / 1e6, failed,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
