// What a report needs to know of this host. Apart from what an apply asks, so that a program which only loads rules has none of it.

#include <algorithm>

#include <sys/utsname.h>

#include "promwarden/apply.hpp"
#include "promwarden/host.hpp"
#include "promwarden/rotation.hpp"

namespace promwarden {

namespace {

constexpr std::chrono::seconds longest_inquiry{20};

std::string host_name() {
    utsname name{};
    return ::uname(&name) == 0 ? name.nodename : "";
}

}  // namespace

Facts Engine::observe(const Policy& policy, std::span<const std::string> only, Asking asking) {
    const auto needs = needs_of(only);
    auto facts = observe_filter();
    facts.now = std::chrono::system_clock::now();
    facts.host = host_name();
    if (facts.firewall && facts.firewall->live)
        if (auto counters = kernel_.counters()) facts.firewall->counters = *std::move(counters);
    facts.links_watched = links_watched_ || follows_links();
    if (includes(needs, Part::bypasses | Part::containers)) observe_foreign(policy, needs, facts);
    if (includes(needs, Part::servers | Part::files | Part::storage | Part::live)) observe_servers(policy, facts);
    if (includes(needs, Part::files | Part::storage)) {
        host::Places places;
        places.seen_from = confined_ ? 1 : 0;
        const auto none = std::vector<Server>{};
        facts.files = host::read_files(policy, facts.servers ? *facts.servers : none, places);
        if (!facts.files) facts.storage = std::unexpected(facts.files.error());
        else if (includes(needs, Part::storage) && policy.data.encryption_required) facts.storage = host::read_storage(*facts.files, places);
    }
    if (includes(needs, Part::proxy)) facts.proxy = host::read_proxy(policy);
    if (includes(needs, Part::certificates) && !policy.tls.certificates.empty())
        facts.certificates = rotation::observe(policy, rotation::places_of(policy, state_.directory()), rotation::host_world(false));
    if (includes(needs, Part::live) && asking == Asking::yes) add_live(facts, ask_endpoints(probe_, policy, facts, longest_inquiry));
    return facts;
}

Result<Facts> Engine::observe_image(const Policy& policy, const std::string& root) {
    Facts facts;
    facts.now = std::chrono::system_clock::now();
    facts.host = facts.root = root;
    facts.servers = std::vector{host::read_server_below(policy.prometheus.unit, root)};
    facts.files = TRY(host::read_files(policy, *facts.servers, {.root = root, .seen_from = 0}));
    return facts;
}

void Engine::observe_foreign(const Policy& policy, Part needs, Facts& facts) {
    const auto foreign = firewall::read_foreign(kernel_);
    if (includes(needs, Part::bypasses) && facts.links) {
        if (foreign) facts.bypasses = host::find_bypasses(policy.firewall, *facts.links, *foreign);
        else facts.bypasses = std::unexpected(foreign.error());
    }
    if (!includes(needs, Part::containers)) return;
    facts.containers = host::read_containers(foreign ? *foreign : firewall::ForeignRules{});
    if (!foreign) facts.containers->unread.push_back(foreign.error().text());
}

void Engine::observe_servers(const Policy& policy, Facts& facts) {
    constexpr PortRange all[] = {{1, 65535}};
    facts.listeners = host::read_listeners();
    if (facts.listeners) host::find_holders(*facts.listeners, all);
    facts.servers = host::read_servers(policy.prometheus.unit, facts.listeners ? std::span<const Listener>(*facts.listeners) : std::span<const Listener>{});
}

}  // namespace promwarden
