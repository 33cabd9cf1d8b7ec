// Family network: the packet filter and what goes around it.

#include <algorithm>

#include <fmt/format.h>

#include "families.hpp"
#include "promwarden/firewall.hpp"

namespace promwarden {

namespace {

constexpr std::string_view our_table = "table inet promwarden";
constexpr std::size_t most_findings = 20;

Finding filter_finding(std::string subject, std::string expected, std::string observed) {
    return {std::move(subject), std::move(expected), std::move(observed), {}, Evidence::kernel, {true, "promwarden apply"}};
}

/// What the packets of one hook meet in a ruleset.
class HookPart {
public:
    HookPart(const Ruleset& whole, Hook::Point point) : whole_(whole) {
        part_.dormant = whole.dormant;
        for (const auto& chain : whole.chains)
            if (chain.hook && chain.hook->point == point) take_chain(chain.name);
    }
    [[nodiscard]] const Ruleset& part() const { return part_; }

private:
    void take_chain(const std::string& name) {
        const auto* chain = whole_.chain(name);
        if (chain == nullptr || part_.chain(name) != nullptr) return;
        part_.chains.push_back(*chain);
        for (const auto& rule : chain->rules)
            for (const auto& expression : rule.expressions) take_what_it_names(expression);
    }

    void take_what_it_names(const Expression& expression) {
        if (const auto* verdict = std::get_if<expr::Verdict>(&expression); verdict != nullptr && !verdict->chain.empty())
            take_chain(verdict->chain);
        if (const auto* lookup = std::get_if<expr::Lookup>(&expression); lookup != nullptr && part_.set(lookup->set) == nullptr)
            if (const auto* set = whole_.set(lookup->set)) part_.sets.push_back(*set);
        if (const auto* count = std::get_if<expr::Count>(&expression);
            count != nullptr && std::ranges::count(part_.counters, count->counter) == 0)
            if (std::ranges::count(whole_.counters, count->counter) != 0) part_.counters.push_back(count->counter);
    }

    const Ruleset& whole_;
    Ruleset part_;
};

/// "rule guard_pre", "element guard_office_ip4_8", "chain guard_fwd".
std::string subject_of(const firewall::Edit& edit) {
    if (edit.object.contains(' ') || edit.text.empty()) return edit.object;
    return fmt::format("{} {}", edit.object, edit.text.substr(0, edit.text.find(' ')));
}

Decision decision_of(const firewall::Difference& difference, std::string passed) {
    if (difference.empty()) return {Verdict::pass, std::move(passed), {}};
    Decision decision{Verdict::fail, {}, {}};
    std::uint64_t total = 0, shown = 0;
    for (const auto& edit : difference.edits) {
        total += edit.count;
        if (decision.findings.size() == most_findings) continue;
        shown += edit.count;
        const bool missing = edit.kind == firewall::Edit::Kind::add;
        const auto text = edit.text.empty() ? edit.object : edit.text;
        decision.findings.push_back(filter_finding(subject_of(edit), missing ? text : "not there", missing ? "missing" : text));
    }
    if (total > shown)
        decision.findings.push_back(
            filter_finding(std::string(our_table), "no further difference", fmt::format("{} more differences", total - shown)));
    decision.reason = fmt::format("the live table differs from the policy's in {} place{}", total, total == 1 ? "" : "s");
    return decision;
}

Decision dormant() {
    return {Verdict::fail,
            "the table is dormant: the kernel keeps its rules and evaluates none",
            {filter_finding(std::string(our_table), "active", "dormant (nft flag dormant)")}};
}

Decision absent() {
    return {
        Verdict::fail,
        "there is no table inet promwarden",
        {filter_finding(std::string(our_table), "the policy's ruleset", "there is no table inet promwarden: the guarded ports are open")}};
}

std::string counts_of(const Ruleset& ruleset) {
    std::size_t rules = 0, elements = 0;
    for (const auto& chain : ruleset.chains) rules += chain.rules.size();
    for (const auto& set : ruleset.sets) elements += set.elements ? set.elements->size() : 0;
    return fmt::format("{} rules in {} chains, {} elements in {} sets", rules, ruleset.chains.size(), elements, ruleset.sets.size());
}

/// A word for a command line that a person may copy: interface names may hold what a shell would take for syntax.
std::string quoted(std::string_view word) {
    const auto harmless = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_-.:@/,+=").contains(c);
    };
    if (!word.empty() && std::ranges::all_of(word, harmless)) return std::string(word);
    std::string text = "'";
    for (const auto c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
}

/// "table ip nat chain PREROUTING" as nft's commands name it: "ip nat PREROUTING".
std::string chain_words(std::string_view subject) {
    const auto at = subject.find(" chain ");
    if (!subject.starts_with("table ") || at == std::string_view::npos) return std::string(subject);
    return fmt::format("{} {}", subject.substr(6, at - 6), subject.substr(at + 7));
}

struct BypassAdvice {
    std::string expected;
    std::string remedy;
};

BypassAdvice advice(const Bypass& bypass) {
    using enum Bypass::Kind;
    const auto subject = quoted(bypass.subject);
    const auto find_rule = fmt::format("nft -a list chain {} shows its handle for nft delete rule", chain_words(bypass.subject));
    switch (bypass.kind) {
        case xdp:
            return {"no XDP program: it takes packets before any rule sees them", fmt::format("ip link set dev {} xdp off", subject)};
        case tc:
            return {"no tc filter that moves or rewrites packets: it works before any rule, or after the last",
                    fmt::format("tc filter del dev {} ingress (or egress, as observed), or only the filter that tc filter show names",
                                subject)};
        case netdev_chain:
            return {"no netdev chain that moves or rewrites packets before the guard sees them",
                    fmt::format("nft delete chain {}, or only the rules that were observed", chain_words(bypass.subject))};
        case flowtable:
            return {"no flowtable in use: packets of its flows skip the guard, so a withdrawn source keeps its connection",
                    fmt::format("remove the rules that add flows to it, then nft delete {}", bypass.subject)};
        case macvlan:
            return {"no macvlan or ipvlan that belongs to another namespace or a program: its packets leave the interface below our hooks",
                    fmt::format("attach the container or virtual machine on {} to a bridge instead, or filter inside it", bypass.subject)};
        case route_localnet:
            return {"route_localnet 0: with 1 a neighbour reaches listeners on 127.0.0.1",
                    fmt::format("sysctl -w net/ipv4/conf/{}/route_localnet=0", subject)};
        case redirect:
            return {"no redirect to a guarded port that the guard does not judge", "remove the redirecting rule: " + find_rule};
        case transparent_proxy:
            return {"no tproxy rule for a guarded port that the guard does not judge", "remove the tproxy rule: " + find_rule};
        case rewrite:
            return {"no rule of others that rewrites packets: the guard would judge what it wrote",
                    "remove the rewriting rule: " + find_rule};
    }
    return {};
}

/// The ways around that are none while the guard is in force. Container engines bring many.
std::string covered_text(const std::vector<Bypass>& bypasses) {
    constexpr std::ptrdiff_t most_named = 3;
    const auto total = std::ranges::count_if(bypasses, &Bypass::covered);
    std::string text;
    std::ptrdiff_t named = 0;
    for (const auto& bypass : bypasses) {
        if (!bypass.covered || named == most_named) continue;
        text += fmt::format("{} {} ({})", named++ == 0 ? "; covered by the guard:" : ",", bypass.subject, bypass.observed);
    }
    return total > most_named ? fmt::format("{} and {} more", text, total - most_named) : text;
}

/// The ruleset of a policy on this host.
Result<Ruleset> ruleset_of(const FirewallPolicy& policy, const Facts& facts) {
    if (!facts.firewall) return std::unexpected(facts.firewall.error());
    if (!facts.links) return std::unexpected(facts.links.error());
    auto surroundings = firewall::surroundings(*facts.links);
    surroundings.probe_user = facts.probe_user;
    surroundings.watched = facts.links_watched;
    const auto& live = facts.firewall->live;
    return firewall::compile(policy, surroundings, live ? &*live : nullptr);
}

}  // namespace

Result<Ruleset> desired_ruleset(const Policy& policy, const Facts& facts) {
    if (policy.mode_of("access.local-users") == Mode::enforce) return ruleset_of(policy.firewall, facts);
    auto without = policy.firewall;
    for (auto& service : without.services) service.local_users.reset();
    return ruleset_of(without, facts);
}

Decision compare_ruleset(const Policy& policy, const Facts& facts, std::optional<Hook::Point> hook, std::string passed) {
    const auto desired = hook ? ruleset_of(policy.firewall, facts) : desired_ruleset(policy, facts);
    if (!desired) return unknown(desired.error());
    const auto& live = facts.firewall->live;
    if (!live) return absent();
    if (live->dormant) return dormant();
    if (!hook) return decision_of(firewall::difference(&*live, &*desired), std::move(passed));
    const HookPart here(*live, *hook), wanted(*desired, *hook);
    return decision_of(firewall::difference(&here.part(), &wanted.part()), std::move(passed));
}

Decision decide_packet_filter(const Policy& policy, const Facts& facts) {
    if (policy.firewall.services.empty()) return not_applicable("the policy guards no port: it has no [[firewall.service]]");
    auto decision = compare_ruleset(policy, facts, {}, "the live table is exactly the policy's");
    if (decision.verdict == Verdict::pass) decision.reason += fmt::format(": {}", counts_of(*facts.firewall->live));
    return decision;
}

Decision decide_container_path(const Policy& policy, const Facts& facts) {
    if (policy.firewall.services.empty()) return not_applicable("the policy guards no port: it has no [[firewall.service]]");
    auto decision = compare_ruleset(policy, facts, Hook::Point::forward,
                                    "what is forwarded to a container or rewritten by DNAT meets the same rules as what is for the host");
    if (decision.verdict == Verdict::fail)
        decision.reason = "traffic that is forwarded or DNATed to guarded ports is not judged as the policy says: " + decision.reason;
    return decision;
}

Decision decide_bypass(const Policy& policy, const Facts& facts) {
    if (policy.firewall.services.empty()) return not_applicable("the policy guards no port, so there is no filter to go around");
    if (!facts.bypasses) return unknown(facts.bypasses.error());
    Decision decision;
    for (const auto& bypass : *facts.bypasses) {
        if (bypass.covered) continue;
        auto [expected, remedy] = advice(bypass);
        decision.findings.push_back(
            {bypass.subject, std::move(expected), bypass.observed, {}, Evidence::kernel, {false, std::move(remedy)}});
    }
    const auto ways = decision.findings.size();
    decision.verdict = ways == 0 ? Verdict::pass : Verdict::fail;
    decision.reason = ways == 0 ? "nothing was found that moves packets around the filter"
                                : fmt::format("{} way{} around the filter", ways, ways == 1 ? "" : "s");
    decision.reason += covered_text(*facts.bypasses);
    return decision;
}

}  // namespace promwarden
