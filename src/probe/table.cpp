// What may be asked. Every row was tried on a Prometheus whose admin API, lifecycle API and write receiver were on: it changes nothing there. Not on the list, and
// never to be put on it: POST or PUT of snapshot, clean_tombstones, /-/reload and /-/quit, and the profiles that cost processor time.

#include <algorithm>
#include <array>

#include "promwarden/probe.hpp"

namespace promwarden::probe {

namespace {

constexpr auto rows = std::to_array<Question>({
    {"GET", "/"},
    {"GET", "/graph"},
    {"GET", "/-/healthy"},
    {"HEAD", "/-/healthy"},
    {"GET", "/-/ready"},
    {"GET", "/-/reload"},  // 405: only POST and PUT do anything
    {"GET", "/-/quit"},
    {"GET", "/version"},
    {"GET", "/metrics"},
    {"GET", "/federate"},
    {"GET", "/federate?match[]=up"},
    {"GET", "/consoles/"},
    {"GET", "/user/"},
    {"GET", "/debug/pprof/"},
    {"GET", "/debug/pprof/cmdline"},
    {"GET", "/api/v1/query"},  // 400 where it is let through
    {"GET", "/api/v1/query?query=up"},
    {"GET", "/api/v1/query_range?query=up&start=0&end=1&step=1"},
    {"GET", "/api/v1/query_exemplars?query=up&start=0&end=1"},
    {"GET", "/api/v1/format_query?query=up"},
    {"GET", "/api/v1/parse_query?query=up"},
    {"GET", "/api/v1/labels"},
    {"GET", "/api/v1/label/job/values"},
    {"GET", "/api/v1/series"},
    {"GET", "/api/v1/series?match[]=up"},
    {"GET", "/api/v1/scrape_pools"},
    {"GET", "/api/v1/targets"},
    {"GET", "/api/v1/targets/metadata"},
    {"GET", "/api/v1/targets/relabel_steps"},
    {"GET", "/api/v1/alertmanagers"},
    {"GET", "/api/v1/metadata"},
    {"GET", "/api/v1/alerts"},
    {"GET", "/api/v1/rules"},
    {"GET", "/api/v1/features"},
    {"GET", "/api/v1/notifications"},
    {"GET", "/api/v1/status/config"},
    {"GET", "/api/v1/status/flags", true},
    {"GET", "/api/v1/status/runtimeinfo", true},
    {"GET", "/api/v1/status/buildinfo", true},
    {"GET", "/api/v1/status/tsdb"},
    {"GET", "/api/v1/status/walreplay"},
    {"GET", "/api/v1/read"},
    {"GET", "/api/v1/write"},
    {"GET", "/api/v1/admin/tsdb/delete_series"},
    {"GET", "/api/v1/admin/tsdb/snapshot"},
    {"GET", "/api/v1/admin/tsdb/clean_tombstones"},
    {"OPTIONS", "/api/v1/query"},
    // With an empty body these tell on from off and do nothing: no series is named, no sample is sent.
    {"POST", "/api/v1/admin/tsdb/delete_series"},
    {"POST", "/api/v1/write"},
    {"POST", "/api/v1/otlp/v1/metrics"},
    {"POST", "/api/v1/read"},
});

}  // namespace

std::span<const Question> questions() { return rows; }

const Question* find_question(std::string_view method, std::string_view path) {
    const auto found = std::ranges::find_if(rows, [&](const Question& row) { return row.method == method && row.path == path; });
    return found == rows.end() ? nullptr : &*found;
}

}  // namespace promwarden::probe
