#include "foreign.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <netinet/in.h>
// After the C library's: the kernel's headers then leave its types alone.
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>

namespace promwarden::cli {

namespace {

using firewall::ForeignChain;
using firewall::ForeignRules;
using firewall::Packet;

constexpr int most_jumps = 16;  // NFT_JUMP_STACK_SIZE
constexpr std::size_t most_rules = 100'000;  // looked at for one packet: jumps multiply

/// Whether a rule matches; in this order, "and" is the minimum.
enum class Match : std::uint8_t { no, maybe, yes };

/// What may become of a packet.
struct Fates {
    bool accepted = false, dropped = false, continues = false;
    void add(const Fates& other) { accepted |= other.accepted, dropped |= other.dropped, continues |= other.continues; }
};

/// What is known of a register.
struct Register {
    enum class Other : std::uint8_t { anything, interface_index, interface_name };
    std::optional<std::vector<std::uint8_t>> bytes;
    Other other = Other::anything;  // without bytes: that it is that of an interface which is not the loopback
};

template <class Number>
std::vector<std::uint8_t> bytes_of(Number number) {
    std::vector<std::uint8_t> bytes(sizeof number);
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
}

/// Expressions that neither decide nor load anything.
bool neutral(std::string_view name) {
    constexpr std::array<std::string_view, 5> names{"counter", "xt comment", "notrack", "meta set", "last"};
    return std::ranges::find(names, name) != names.end();
}

/// Expressions that end a rule with a verdict of their own.
std::optional<Fates> ending(std::string_view name) {
    if (name == "reject" || name == "xt REJECT") return Fates{false, true, false};
    if (name == "lookup" || name == "queue" || name == "synproxy") return Fates{true, true, true};  // a verdict map among them
    return std::nullopt;
}

class Walk {
public:
    Walk(const ForeignRules& rules, const Packet& packet) : rules_(rules), packet_(packet) {}

    Fates through(const ForeignChain& base, bool receiving) {
        receiving_ = receiving;
        auto fates = walk(base, 0);
        if (fates.continues) (base.drops_by_default ? fates.dropped : fates.accepted) = true;
        return fates;
    }

private:
    Fates walk(const ForeignChain& chain, int depth) {
        if (depth > most_jumps) return {true, true, true};
        Fates fates;
        for (const auto& rule : chain.rules) {
            if (++looked_at_ > most_rules) return {true, true, true};
            auto [match, result] = judge(chain, rule, depth);
            if (match == Match::no) continue;
            const bool goes_on = match == Match::maybe || falls_through_;
            if (goes_on && !returns_) result.continues = false;  // what goes on is judged by the rules that follow
            fates.add(result);
            if (!goes_on) return fates;
        }
        fates.continues = true;
        return fates;
    }

    /// Whether the rule matches, and what it then does. Sets `falls_through_` where a packet may come back to the next rule, `returns_` where it may leave the
    /// chain instead.
    std::pair<Match, Fates> judge(const ForeignChain& chain, const Rule& rule, int depth) {
        falls_through_ = returns_ = false;
        auto match = Match::yes;
        Register loaded;
        for (const auto& expression : rule.expressions) {
            if (const auto* verdict = std::get_if<expr::Verdict>(&expression)) return {match, match == Match::no ? Fates{} : follow(chain, *verdict, depth)};
            if (std::holds_alternative<expr::Reject>(expression)) return {match, {false, true, false}};
            const auto* foreign = std::get_if<expr::Foreign>(&expression);
            if (foreign != nullptr && &expression == &rule.expressions.back())
                if (const auto fates = ending(foreign->name)) {
                    falls_through_ = fates->continues;
                    return {match, *fates};
                }
            match = std::min(match, step(expression, loaded));
        }
        return {Match::no, {}};  // without a verdict it decides nothing
    }

    Fates follow(const ForeignChain& chain, const expr::Verdict& verdict, int depth) {
        switch (verdict.kind) {
            case expr::Verdict::Kind::accept: return {true, false, false};
            case expr::Verdict::Kind::drop: return {false, true, false};
            case expr::Verdict::Kind::return_to: returns_ = true; return {false, false, true};
            case expr::Verdict::Kind::jump: case expr::Verdict::Kind::go_to: break;
        }
        const auto target = std::ranges::find_if(rules_.chains, [&](const ForeignChain& other) {
            return other.name == verdict.chain && other.table == chain.table && other.family == chain.family;
        });
        auto fates = target == rules_.chains.end() ? Fates{true, true, true} : walk(*target, depth + 1);
        returns_ = verdict.kind == expr::Verdict::Kind::go_to;
        falls_through_ = fates.continues && !returns_;
        return fates;
    }

    [[nodiscard]] Match step(const Expression& expression, Register& loaded) const {
        if (const auto* compare = std::get_if<expr::Compare>(&expression)) return compared(*compare, loaded);
        if (const auto* mask = std::get_if<expr::Mask>(&expression)) {
            if (!loaded.bytes || loaded.bytes->size() != mask->mask.size()) loaded = {};
            for (std::size_t i = 0; loaded.bytes && i < mask->mask.size(); ++i) (*loaded.bytes)[i] &= mask->mask[i];
            return Match::yes;
        }
        if (std::holds_alternative<expr::Count>(expression) || std::holds_alternative<expr::Log>(expression)) return Match::yes;
        if (std::holds_alternative<expr::Lookup>(expression) || std::holds_alternative<expr::Limit>(expression)) return Match::maybe;
        if (const auto* foreign = std::get_if<expr::Foreign>(&expression)) {
            if (neutral(foreign->name)) return Match::yes;
            loaded = {};
            return Match::maybe;
        }
        loaded = load(expression);
        return Match::yes;
    }

    [[nodiscard]] Register load(const Expression& expression) const {
        if (const auto* meta = std::get_if<expr::Meta>(&expression)) return load_meta(meta->key);
        if (const auto* payload = std::get_if<expr::Payload>(&expression)) return load_payload(*payload);
        if (std::holds_alternative<expr::FibDestinationType>(expression)) return {bytes_of(std::uint32_t{RTN_LOCAL})};
        return {};
    }

    [[nodiscard]] std::uint8_t protocol() const { return packet_.protocol == Protocol::tcp ? IPPROTO_TCP : IPPROTO_UDP; }

    [[nodiscard]] Register load_meta(expr::Meta::Key key) const {
        using Key = expr::Meta::Key;
        const bool ip4 = packet_.source.family == Family::ip4;
        if (key == Key::nfproto) return {{{ip4 ? std::uint8_t{NFPROTO_IPV4} : std::uint8_t{NFPROTO_IPV6}}}};
        if (key == Key::l4proto) return {{{protocol()}}};
        if (key == (receiving_ ? Key::iif : Key::oif)) {
            if (!packet_.loopback) return {std::nullopt, Register::Other::interface_index};
            return {bytes_of(std::uint32_t{1})};
        }
        if (key == (receiving_ ? Key::iifname : Key::oifname)) {
            if (!packet_.loopback) return {std::nullopt, Register::Other::interface_name};
            std::vector<std::uint8_t> padded(16);
            std::ranges::copy(std::string_view("lo"), padded.begin());
            return {std::move(padded)};
        }
        return {};
    }

    [[nodiscard]] Register load_payload(const expr::Payload& payload) const {
        const auto source = packet_.source.packed();
        const bool ip4 = packet_.source.family == Family::ip4;
        if (payload.base == expr::Payload::Base::transport) {
            if (payload.offset != 2 || payload.length != 2) return {};
            return {{{static_cast<std::uint8_t>(packet_.port >> 8), static_cast<std::uint8_t>(packet_.port)}}};
        }
        // A prefix of whole bytes is loaded as such: "ip saddr 10.0.0.0/8".
        if (payload.offset == (ip4 ? 12U : 8U) && payload.length <= source.size())
            return {std::vector<std::uint8_t>(source.begin(), source.begin() + payload.length)};
        if (payload.length == 1 && payload.offset == (ip4 ? 9U : 6U)) return {{{protocol()}}};
        return {};
    }

    static Match compared(const expr::Compare& compare, const Register& loaded) {
        using Op = expr::Compare::Op;
        if (!loaded.bytes) {
            const bool of_loopback = (loaded.other == Register::Other::interface_index && compare.value == bytes_of(std::uint32_t{1})) ||
                                     (loaded.other == Register::Other::interface_name && is_name_of_loopback(compare.value));
            if (!of_loopback || (compare.op != Op::eq && compare.op != Op::neq)) return Match::maybe;
            return compare.op == Op::eq ? Match::no : Match::yes;
        }
        const int order = std::memcmp(loaded.bytes->data(), compare.value.data(), std::min(loaded.bytes->size(), compare.value.size()));
        const std::array<bool, 6> holds{order == 0, order != 0, order < 0, order <= 0, order > 0, order >= 0};
        return holds[static_cast<std::size_t>(compare.op)] ? Match::yes : Match::no;
    }

    /// With its end: without one, "lo" stands for every name that begins so.
    static bool is_name_of_loopback(const std::vector<std::uint8_t>& value) { return value.size() > 2 && value[0] == 'l' && value[1] == 'o' && value[2] == 0; }

    const ForeignRules& rules_;
    const Packet& packet_;
    bool receiving_ = true;
    std::size_t looked_at_ = 0;
    bool falls_through_ = false, returns_ = false;  // of the rule that was judged last
};

/// Where a base chain stands on a packet's way.
struct Place {
    int stage = 0;  // 0: where a local process sends, 1: before routing, 2: for this host
    const ForeignChain* chain = nullptr;
};

std::optional<int> stage_of(const ForeignChain& chain, const Packet& packet) {
    if (!chain.hook) return std::nullopt;
    const bool family = chain.family == "inet" || chain.family == (packet.source.family == Family::ip4 ? "ip" : "ip6");
    if (!family) return std::nullopt;
    switch (*chain.hook) {
        case NF_INET_LOCAL_OUT: return packet.loopback ? std::optional(0) : std::nullopt;
        case NF_INET_PRE_ROUTING: return 1;
        case NF_INET_LOCAL_IN: return 2;
        default: return std::nullopt;
    }
}

}  // namespace

std::vector<ForeignDrop> foreign_drops(const ForeignRules& rules, const Packet& packet) {
    std::vector<Place> places;
    for (const auto& chain : rules.chains)
        if (const auto stage = stage_of(chain, packet)) places.push_back({*stage, &chain});
    std::ranges::stable_sort(places, {}, [](const Place& place) { return std::pair(place.stage, place.chain->priority); });
    constexpr std::array<std::string_view, 3> hooks{"output", "prerouting", "input"};
    const auto ours = packet.loopback ? std::pair(0, 0) : std::pair(1, -250);  // guard_out, guard_pre
    std::vector<ForeignDrop> drops;
    for (const auto& [stage, chain] : places) {
        const auto fates = Walk(rules, packet).through(*chain, stage != 0);
        if (!fates.dropped) continue;
        const bool certain = !fates.accepted;
        drops.push_back({fmt::format("table {} {} chain {} ({}, priority {})", chain->family, chain->table, chain->name, hooks[static_cast<std::size_t>(stage)], chain->priority),
                         certain, std::pair(stage, chain->priority) < ours});
        if (certain) break;
    }
    return drops;
}

}  // namespace promwarden::cli
