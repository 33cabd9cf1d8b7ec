// render — files that the policy implies, printed and not installed.

#include "local.hpp"
#include "output.hpp"
#include "promwarden/nginx.hpp"

namespace promwarden::cli {

Outcome render_nginx(const Options& options) {
    const auto candidate = TRY(load_policy(options.policy));
    const auto site = nginx::render_site(candidate.policy);
    if (!site) return failure(Exit::usage, render::printable(site.error().text()));
    TRY(write_result(options, *site));
    return Exit::holds;
}

/// The job by which Prometheus scrapes what the agent counts.
Outcome render_scrape(const Options& options) {
    TRY(write_result(options, "# What promwardend counts, from promwarden-metrics.socket (systemctl enable --now promwarden-metrics.socket).\n"
                              "# Add the job to scrape_configs of prometheus.yml, or name this file in scrape_config_files.\n"
                              "scrape_configs:\n"
                              "  - job_name: promwarden\n"
                              "    static_configs:\n"
                              "      - targets: [\"127.0.0.1:9469\"]\n"));
    return Exit::holds;
}

}  // namespace promwarden::cli
