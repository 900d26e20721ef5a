-- wrk's script: posts the body in the file named after "--", each time with a number of its own,
-- and ends with one line of JSON. Times are in microseconds.
local head, tail
local number = 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local body = file:read("*a")
  file:close()
  math.randomseed(tonumber(arguments[2]))
  number = math.random(1, 1000000000)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  local from, to = body:find("{{number}}", 1, true)
  if from then
    head, tail = body:sub(1, from - 1), body:sub(to + 1)
  else
    wrk.body = body
  end
end

function request()
  if head then
    number = number + 1
    return wrk.format(nil, nil, nil, head .. number .. tail)
  end
  return wrk.format()
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '\nJSON {"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
