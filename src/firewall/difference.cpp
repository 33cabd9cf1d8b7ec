// What a plan prints: two rulesets compared object by object.

#include <algorithm>

#include <fmt/format.h>

#include "promwarden/firewall.hpp"
#include "script.hpp"

namespace promwarden::firewall {

namespace {

constexpr std::size_t shown_elements = 20;

class Comparison {
public:
    Difference compare(const Ruleset* from, const Ruleset* to) {
        static const Ruleset nothing;
        if (from == nullptr && to == nullptr) return {};
        if (from == nullptr) add(Edit::Kind::add, "table", fmt::format("inet {}", table_name));
        if (to == nullptr) add(Edit::Kind::remove, "table", fmt::format("inet {}", table_name));
        const auto& old_rules = from == nullptr ? nothing : *from;
        const auto& new_rules = to == nullptr ? nothing : *to;
        if (from != nullptr && to != nullptr && from->dormant != to->dormant) add(to->dormant ? Edit::Kind::add : Edit::Kind::remove, "table", "flags dormant");
        counters(old_rules, new_rules);
        sets(old_rules, new_rules);
        chains(old_rules, new_rules);
        return std::move(difference_);
    }

private:
    void add(Edit::Kind kind, std::string object, std::string text, std::uint64_t count = 1) {
        difference_.edits.push_back({kind, std::move(object), std::move(text), count});
    }

    void counters(const Ruleset& from, const Ruleset& to) {
        for (const auto& name : from.counters)
            if (std::ranges::find(to.counters, name) == to.counters.end()) add(Edit::Kind::remove, "counter", name);
        for (const auto& name : to.counters)
            if (std::ranges::find(from.counters, name) == from.counters.end()) add(Edit::Kind::add, "counter", name);
    }

    void sets(const Ruleset& from, const Ruleset& to) {
        for (const auto& set : from.sets)
            if (to.set(set.name) == nullptr) add(Edit::Kind::remove, "set", describe(set));
        for (const auto& set : to.sets) {
            const auto* old = from.set(set.name);
            const bool other = old != nullptr && (old->type != set.type || old->flags != set.flags);
            if (other) add(Edit::Kind::remove, "set", describe(*old));
            if (old == nullptr || other) add(Edit::Kind::add, "set", describe(set));
            if (set.elements == nullptr || (old != nullptr && !other && (old->elements == nullptr || old->elements == set.elements))) continue;
            const PackedKeys none(key_width(set.type));
            const auto& before = old == nullptr || other ? none : *old->elements;
            elements(Edit::Kind::remove, set, before.minus(*set.elements));
            elements(Edit::Kind::add, set, set.elements->minus(before));
        }
    }

    static std::string describe(const Set& set) {
        constexpr std::array<std::string_view, 4> types{"ipv4_addr", "ipv6_addr", "ifname", "uid"};
        return fmt::format("{} {{ type {}{} }}", set.name, types[static_cast<std::size_t>(set.type)], set.flags == 0 ? "" : fmt::format("; flags 0x{:x}", set.flags));
    }

    void elements(Edit::Kind kind, const Set& set, const PackedKeys& keys) {
        const auto object = fmt::format("element {}", set.name);
        const auto shown = std::min(keys.size(), shown_elements);
        for (std::size_t i = 0; i < shown; ++i) add(kind, object, element_text(set.type, keys[i]));
        if (keys.size() > shown) add(kind, object, fmt::format("and {} more", keys.size() - shown), keys.size() - shown);
    }

    void chains(const Ruleset& from, const Ruleset& to) {
        for (const auto& chain : from.chains)
            if (to.chain(chain.name) == nullptr) whole(Edit::Kind::remove, chain);
        for (const auto& chain : to.chains) {
            const auto* old = from.chain(chain.name);
            if (old == nullptr) whole(Edit::Kind::add, chain);
            else changed(*old, chain);
        }
    }

    void whole(Edit::Kind kind, const Chain& chain) {
        add(kind, "chain", chain.hook ? fmt::format("{} {{ {} }}", chain.name, to_text(*chain.hook)) : chain.name);
        for (const auto& one : chain.rules) rule(kind, chain, one);
    }

    void rule(Edit::Kind kind, const Chain& chain, const Rule& one) {
        add(kind, fmt::format("rule {}", chain.name), one.comment.empty() ? to_text(one) : fmt::format("{} # {}", to_text(one), one.comment));
    }

    void changed(const Chain& from, const Chain& to) {
        if (from.hook != to.hook) {
            whole(Edit::Kind::remove, from);
            whole(Edit::Kind::add, to);
            return;
        }
        const auto same = [&](std::size_t left, std::size_t right) { return from.rules[left] == to.rules[right]; };
        for (const auto step : script(from.rules.size(), to.rules.size(), same)) {
            if (step.kind == ScriptStep::Kind::remove) rule(Edit::Kind::remove, to, from.rules[step.index]);
            if (step.kind == ScriptStep::Kind::add) rule(Edit::Kind::add, to, to.rules[step.index]);
        }
    }

    Difference difference_;
};

}  // namespace

Difference difference(const Ruleset* from, const Ruleset* to) { return Comparison().compare(from, to); }

std::string to_text(const Difference& difference) {
    std::string text;
    for (const auto& edit : difference.edits) text += fmt::format("{} {} {}\n", edit.kind == Edit::Kind::add ? '+' : '-', edit.object, edit.text);
    return text;
}

}  // namespace promwarden::firewall
