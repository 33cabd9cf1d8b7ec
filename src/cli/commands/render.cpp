// render — files that the policy implies, printed and not installed.

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "agent.hpp"
#include "local.hpp"
#include "output.hpp"
#include "promwarden/flags.hpp"
#include "promwarden/host.hpp"
#include "promwarden/nginx.hpp"
#include "promwarden/rules.hpp"

namespace promwarden::cli {

namespace {

constexpr const char* textfile_directory = "/var/lib/prometheus/node-exporter";  // Debian's, for node_exporter's textfile collector

}  // namespace

/// With the endpoints of the Prometheus that is here.
Outcome render_nginx(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    const auto servers = host::read_servers(candidate.policy.prometheus.unit, {});
    const auto version = servers && !servers->empty() ? prometheus::version_of(servers->front().version) : std::nullopt;
    const auto site = nginx::render_site(candidate.policy, version.value_or(prometheus::oldest_version), nginx::site_paths(candidate.policy));
    if (!site) return failure(Exit::usage, render::printable(site.error().text()));
    TRY(write_result(options, *site));
    return Exit::holds;
}

/// The job by which Prometheus scrapes what the agent counts; or, where node_exporter is here already, the way through that.
Outcome render_scrape(const Options& options) {
    const bool has_textfile = ::access(textfile_directory, X_OK) == 0;
    const std::string instead = has_textfile ? std::string("# node_exporter's textfile directory is here. Instead of this job, have a timer run every minute, as root:\n"
                                                           "#     promwarden render metrics --output ") + textfile_directory + "/promwarden.prom\n\n"
                                             : std::string();
    TRY(write_result(options, instead + "# What promwardend counts, from promwarden-metrics.socket (systemctl enable --now promwarden-metrics.socket).\n"
                              "# Add the job to scrape_configs of prometheus.yml, or name this file in scrape_config_files.\n"
                              "scrape_configs:\n"
                              "  - job_name: promwarden\n"
                              "    static_configs:\n"
                              "      - targets: [\"127.0.0.1:9469\"]\n"));
    return Exit::holds;
}

/// What the agent counts, for a file that somebody else collects.
Outcome render_metrics(const Options& options) {
    auto agent = TRY(Agent::require(options));
    const auto text = TRY(member(TRY(agent.call("Metrics", Json::object())), "text"));
    if (!text.is_string()) return failure(Exit::undetermined, "the agent's answer has no text");
    TRY(write_result(options, text.get<std::string>()));
    return Exit::holds;
}

Outcome render_rules(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    TRY(write_result(options, prometheus::render_rules(candidate.policy)));
    return Exit::holds;
}

/// The drop-ins over this host's unit, each behind its name, as an apply would write them if all of their controls were enforced and none was there.
Outcome render_unit(const Options& options) {
    auto candidate = TRY(load_policy(options.policy));
    auto engine = TRY(open_to_look(options));
    std::vector<std::string> controls;
    for (const auto& control : catalogue())
        if (control.enforced_by.contains("drop-in")) controls.emplace_back(control.id);
    for (const auto& id : controls) candidate.policy.controls[id] = candidate.policy.mode_of(id) == Mode::off ? Mode::off : Mode::enforce;
    candidate.policy.mode = Mode::enforce;
    auto facts = engine.observe_for_apply(candidate.policy, controls);
    if (!facts.bare_unit) return failure(Exit::undetermined, "no service manager runs here that would read a drop-in");
    if (!*facts.bare_unit) return std::unexpected(Failure(facts.bare_unit->error()));
    (*facts.bare_unit)->ours.clear();
    std::string text;
    for (const auto& change : Engine::plan(candidate.policy, facts, controls).changes)
        if (const auto* write = std::get_if<WriteFile>(&change.deed); write != nullptr && change.kind == Change::Kind::unit) text += fmt::format("{}# {}\n{}", text.empty() ? "" : "\n", change.subject, write->after->front().text);
    TRY(write_result(options, text.empty() ? fmt::format("# {} needs no drop-in, or its command line is one that cannot be written anew.\n", candidate.policy.prometheus.unit) : text));
    return Exit::holds;
}

}  // namespace promwarden::cli
