// Prometheus' endpoints with the version that brought each and who may ask for it (web/web.go, web/api/v1/api.go and util/httputil of the versions named).

#include <algorithm>
#include <array>

#include "promwarden/nginx.hpp"

namespace promwarden::nginx {

namespace {

using enum Grant;

constexpr auto table = std::to_array<Route>({
    // ---- the web interface ----
    {"/", false, 242, viewer}, {"/graph", false, 242, viewer}, {"/static/", true, 242, viewer},
    // Debian's builds have the old interface, with the pages of the configuration and the targets in it.
    {"/classic/", false, 242, viewer}, {"/classic/graph", false, 242, viewer}, {"/classic/rules", false, 242, viewer}, {"/classic/static/", true, 242, viewer},
    {"/classic/", true}, {"/classic/alerts"}, {"/classic/config"}, {"/classic/flags"}, {"/classic/service-discovery"}, {"/classic/status"}, {"/classic/targets"},
    {"/assets/", true, 300, viewer}, {"/query", false, 300, viewer}, {"/favicon.svg", false, 300, viewer}, {"/manifest.json", false, 300, viewer},
    {"/consoles/", true}, {"/user/", true}, {"/version"}, {"/config"}, {"/flags"}, {"/rules"}, {"/alerts"}, {"/targets"}, {"/service-discovery"}, {"/status"}, {"/tsdb-status"},
    {"/alertmanager-discovery", false, 300}, {"/agent", false, 300}, {"/starting"},
    // ---- health ----
    {"/-/healthy", false, 242, viewer}, {"/-/ready", false, 242, viewer},
    // ---- queries ----
    {"/api/v1/query", false, 242, viewer, true}, {"/api/v1/query_range", false, 242, viewer, true}, {"/api/v1/labels", false, 242, viewer, true}, {"/api/v1/rules", false, 242, viewer},
    {"/api/v1/query_exemplars", false, 242, admin, true}, {"/api/v1/format_query", false, 242, admin, true}, {"/api/v1/parse_query", false, 300, admin, true},
    {"/api/v1/series", false, 242, admin, true}, {"/api/v1/label/", true}, {"/api/v1/metadata"}, {"/api/v1/targets/metadata"}, {"/api/v1/targets"}, {"/api/v1/targets/relabel_steps", false, 300},
    {"/api/v1/scrape_pools"}, {"/api/v1/alertmanagers"}, {"/api/v1/alerts"}, {"/api/v1/read", false, 242, admin, true}, {"/federate"}, {"/metrics"},
    {"/api/v1/search/", true, 314}, {"/api/v1/features", false, 300}, {"/api/v1/notifications", false, 300}, {"/api/v1/notifications/live", false, 300}, {"/api/v1/openapi.yaml", false, 300},
    // ---- the server itself ----
    {"/api/v1/status/config"}, {"/api/v1/status/flags"}, {"/api/v1/status/runtimeinfo"}, {"/api/v1/status/buildinfo"}, {"/api/v1/status/tsdb"}, {"/api/v1/status/walreplay"},
    {"/api/v1/status/tsdb/blocks", false, 300}, {"/api/v1/status/self_metrics", false, 300},
    {"/api/v1/admin/tsdb/delete_series", false, 242, admin, true}, {"/api/v1/admin/tsdb/clean_tombstones", false, 242, admin, true}, {"/api/v1/admin/tsdb/snapshot", false, 242, admin, true},
    {"/-/reload", false, 242, nobody, true}, {"/-/quit", false, 242, nobody, true}, {"/debug/", true, 242, nobody, true},
    {"/api/v1/write", false, 242, nobody, true}, {"/api/v1/otlp/", true, 242, nobody, true},
});

}  // namespace

std::span<const Route> routes() { return table; }

const Route* find_route(std::string_view path) {
    const Route* best = nullptr;
    for (const auto& route : table) {
        if (route.path == path && !route.below) return &route;
        if (route.below && path.starts_with(route.path) && (best == nullptr || route.path.size() > best->path.size())) best = &route;
    }
    return best;
}

}  // namespace promwarden::nginx
