// Verified by use: what a service was given counts when clients have been shown it.

#include <algorithm>

#include <fmt/format.h>
#include <poll.h>

#include "parts.hpp"

namespace promwarden::rotation {

namespace {

using namespace std::chrono_literals;

constexpr int looks = 3;  // in a row: each handshake reads the files anew, and a proxy's old workers may take one, too
constexpr auto looking_time = 5s;

/// "" once it is shown so often; else what was in the way to the end. Does not wait for somebody who was not there before.
std::string look(const World& world, const Endpoint& endpoint, const std::string& name, const std::string& fingerprint, bool answered) {
    const auto give_up = std::chrono::steady_clock::now() + looking_time;
    for (int seen = 0;;) {
        const auto shown = world.served(endpoint, name);
        if (shown && *shown == fingerprint) {
            if (++seen == looks) return {};
            continue;
        }
        seen = 0;
        if ((!shown && !answered) || std::chrono::steady_clock::now() > give_up)
            return shown ? "it still shows another certificate" : shown.error().text();
        ::poll(nullptr, 0, 50);
    }
}

}  // namespace

bool answers(const World& world, const std::vector<Endpoint>& endpoints, const CertificatePolicy& policy) {
    return world.served && std::ranges::any_of(endpoints, [&](const Endpoint& endpoint) {
               return world.served(endpoint, policy.names.front()).has_value();
           });
}

Result<Sight> settle(const World& world, const std::vector<Endpoint>& endpoints, const CertificatePolicy& policy,
                     const std::string& fingerprint, bool answered) {
    if (policy.install == CertificatePolicy::Install::nginx && world.reload_proxy) TRY(world.reload_proxy());
    Sight sight;
    if (!world.served) return sight;
    for (const auto& endpoint : endpoints) {
        const auto problem = look(world, endpoint, policy.names.front(), fingerprint, answered);
        if (problem.empty()) {
            sight.served = sight.served.value_or(true);
            continue;
        }
        if (answered) return fail(Code::failed, "see the new certificate served by", to_text(endpoint), problem);
        sight.served = false;
        sight.note = fmt::format("{}: {}", to_text(endpoint), problem);
    }
    return sight;
}

}  // namespace promwarden::rotation
