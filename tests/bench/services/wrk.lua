-- SPDX-License-Identifier: MIT
-- wrk's part: the paths after "--" in turn, and the result as the meter gives it (meter.py), on one line of JSON.
local paths, turn = {}, 0

init = function(args)
	paths = args
end

request = function()
	turn = turn % #paths + 1
	return wrk.format("GET", paths[turn])
end

done = function(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\n', summary.requests, summary.duration / 1e6,
		latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
