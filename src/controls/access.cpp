// Family access: who may speak to the backend.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "families.hpp"

namespace promwarden {

Decision decide_local_users(const Policy& policy, const Facts& facts) {
    std::vector<std::string_view> limited, open;
    for (const auto& service : policy.firewall.services) (service.local_users ? limited : open).push_back(service.name);
    if (limited.empty())
        return not_applicable("no service of the policy names local_users: anyone on this host reaches its ports over loopback");

    const auto remark = open.empty() ? std::string() : fmt::format("; anyone on this host reaches {} over loopback", fmt::join(open, ", "));
    auto decision = compare_ruleset(policy, facts, Hook::Point::output,
                                    fmt::format("over loopback only the policy's users reach {}", fmt::join(limited, ", ")));
    if (decision.verdict == Verdict::fail)
        decision.reason =
            fmt::format("users that the policy does not name may reach {} over loopback: {}", fmt::join(limited, ", "), decision.reason);
    if (decision.verdict != Verdict::unknown) decision.reason += remark;
    return decision;
}

}  // namespace promwarden
