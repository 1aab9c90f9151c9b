-- wrk's script: the shapes of requests, and the figures as one line of JSON.
-- Arguments: the shape (same | varied | post), the base path, a number that no other run has.
local shape, base, run, sent

function init(args)
  shape, base, run, sent = args[1], args[2], tonumber(args[3]), 0
  wrk.headers["Accept"] = "application/json"
  wrk.headers["User-Agent"] = "bench/1"
  wrk.path = base .. "/v2/topology"
  if shape ~= "same" then
    -- Only now: with a global `request`, wrk asks for each one; without, it repeats the first.
    local head = "Host: " .. wrk.headers["Host"] .. "\r\nAccept: application/json\r\nUser-Agent: bench/1\r\n"
    if wrk.headers["Authorization"] then
      head = head .. "Authorization: " .. wrk.headers["Authorization"] .. "\r\n"
    end
    request = function()
      sent = sent + 1
      local id = string.format("%08x%08x", run, sent)
      local lines = head .. "X-Request-ID: " .. id .. id .. "\r\ntraceparent: 00-" .. id .. id .. "-" .. id .. "-01\r\n"
      if shape == "varied" then
        return "GET " .. base .. "/v2/process-instances/" .. id .. " HTTP/1.1\r\n" .. lines .. "\r\n"
      end
      local body = '{"filter":{"processInstanceKey":"' .. id .. '","state":"ACTIVE"},"page":{"limit":50}}'
      return "POST " .. base .. "/v2/process-instances/search/" .. id .. " HTTP/1.1\r\n" .. lines
        .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,'
      .. '"p50":%.1f,"p99":%.1f}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout, latency:percentile(50), latency:percentile(99)))
end
