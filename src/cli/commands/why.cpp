// why — what happens to a packet, by what is live now: which hook, rule and set decide, and which line of the policy they come from.

#include <algorithm>

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include "local.hpp"
#include "output.hpp"
#include "passage.hpp"
#include "question.hpp"

namespace promwarden::cli {

namespace {

struct Believed {
    std::optional<Candidate> candidate;
    bool in_force = false;
};

/// The policy that the table should follow: the one on trial, the one that was accepted, else what is on disk.
Or<Believed> believed_policy(const State& state, const Options& options) {
    if (auto trial = TRY(state.trial())) return Believed{std::move(trial->candidate), true};
    if (auto accepted = TRY(state.accepted())) return Believed{std::move(accepted), true};
    auto on_disk = load_candidate(options.policy);
    if (on_disk) return Believed{*std::move(on_disk), false};
    return Believed{};
}

bool is_loopback(const Address& address) {
    return address.family == Family::ip4 ? address.bytes[0] == 127 : address == parse_address("::1");
}

/// Packets from an address of this host to itself go over loopback, whatever the address.
bool is_own(const Address& address) {
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) != 0) return false;
    const Handle<ifaddrs, ::freeifaddrs> all(first);
    for (const auto* each = first; each != nullptr; each = each->ifa_next) {
        if (each->ifa_addr == nullptr) continue;
        Address own{address.family, {}};
        if (each->ifa_addr->sa_family == AF_INET && address.family == Family::ip4)
            std::memcpy(own.bytes.data(), &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, 4);  // NOLINT: the sockets' own way
        else if (each->ifa_addr->sa_family == AF_INET6 && address.family == Family::ip6)
            std::memcpy(own.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr, 16);  // NOLINT: the sockets' own way
        else
            continue;
        if (own == address) return true;
    }
    return false;
}

struct Asked {
    const Service* service = nullptr;
    PortRange ports;
};

/// The ports that are asked about: the one that was named, or each that the policy guards.
Or<std::vector<Asked>> ports_asked(const Question& question, const Policy& policy) {
    std::vector<Asked> asked;
    for (const auto& service : policy.firewall.services)
        for (const auto ports : service.ports) {
            if (!question.port) asked.push_back({&service, ports});
            else if (ports.first <= *question.port && *question.port <= ports.last) asked.push_back({&service, {*question.port, *question.port}});
        }
    if (asked.empty() && question.port) asked.push_back({nullptr, {*question.port, *question.port}});
    if (asked.empty()) return failure(Exit::usage, "no policy guards a port; ask for one: ADDRESS:PORT");
    return asked;
}

/// Which line of the policy the trace stands for.
void find_line(Passage& passage, const Service* service, const Candidate& candidate, bool loopback) {
    if (passage.trace.network && passage.trace.passes) {
        passage.group = group_of_set(passage.trace.set);
        passage.where = locate(candidate.sources, passage.group, *passage.trace.network);
    } else if (service != nullptr && (!passage.trace.passes || (loopback && service->local_users))) {
        passage.where = service->where;
    }
}

Passage passage_to(const Asked& asked, const Question& question, const std::optional<Ruleset>& live, const firewall::ForeignRules& foreign, bool loopback) {
    Passage passage;
    passage.ports = asked.ports;
    firewall::Packet packet{question.source, {}, asked.ports.first, Protocol::tcp, loopback, {}};
    if (asked.service != nullptr) {
        passage.service = asked.service->name;
        packet.protocol = passage.protocol = asked.service->protocol;
    }
    // Over loopback it depends on who sends: nobody in particular is asked for, so a user who is on no list.
    if (loopback) packet.user = std::numeric_limits<uid_t>::max() - 1;
    if (live) passage.trace = firewall::trace(*live, packet);
    if (loopback && !passage.trace.passes && asked.service != nullptr && asked.service->local_users)
        for (const auto& user : *asked.service->local_users) {
            packet.user = user.id;
            if (firewall::trace(*live, packet).passes) passage.local_users.push_back(user.name);
        }
    passage.foreign = foreign_drops(foreign, packet);
    return passage;
}

std::uint64_t differences_of(const Facts& facts, const Policy& policy) {
    const auto desired = desired_ruleset(policy, facts);
    if (!desired || !facts.firewall) return 0;
    const auto& live = facts.firewall->live;
    std::uint64_t count = 0;
    for (const auto& edit : firewall::difference(live ? &*live : nullptr, policy.firewall.services.empty() ? nullptr : &*desired).edits) count += edit.count;
    return count;
}

}  // namespace

Outcome why(const Options& options) {
    const auto question = parse_question(options.argument);
    if (!question) return failure(Exit::usage, question.error().text());
    TRY(require_root("why"));
    auto engine = TRY(open_to_look(options));
    const auto believed = TRY(believed_policy(engine.state(), options));
    const Policy nothing;
    const auto& policy = believed.candidate ? believed.candidate->policy : nothing;
    const std::string only(filter_control);
    const auto facts = engine.observe(policy, {&only, 1});
    const auto live = TRY(Result<FirewallFacts>(facts.firewall)).live;
    const auto foreign = TRY(firewall::read_foreign(engine.kernel()));

    Passages all{question->source, is_loopback(question->source) || is_own(question->source), policy.path, believed.in_force, live.has_value(), live && live->dormant, 0, {}};
    if (believed.in_force) all.differences = differences_of(facts, policy);
    for (const auto& asked : TRY(ports_asked(*question, policy))) {
        auto passage = passage_to(asked, *question, live, foreign, all.loopback);
        if (believed.candidate) find_line(passage, asked.service, *believed.candidate, all.loopback);
        all.ports.push_back(std::move(passage));
    }
    TRY(write_result(options, options.format == render::Format::json ? json(all) : text(all, in_colour(options))));
    return all.pass() ? Exit::holds : Exit::fails;
}

}  // namespace promwarden::cli
