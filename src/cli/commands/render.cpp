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

}  // namespace promwarden::cli
