// A packet's way through a ruleset, by the same rules as the kernel's.

#include <algorithm>

#include <fmt/format.h>
#include <netinet/in.h>
// After the C library's: the kernel's headers then leave its types alone.
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>

#include "promwarden/firewall.hpp"

namespace promwarden::firewall {

namespace {

constexpr int most_jumps = 16;  // NFT_JUMP_STACK_SIZE

template <class Number>
std::vector<std::uint8_t> bytes_of(Number number) {
    std::vector<std::uint8_t> bytes(sizeof number);
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
}

enum class Outcome { next_rule, end_of_chain, accepted, dropped };

class Walk {
public:
    Walk(const Ruleset& ruleset, const Packet& packet, Trace& trace) : ruleset_(ruleset), packet_(packet), trace_(trace) {}

    /// One base chain; false when the packet ends here.
    bool pass(std::string_view name, bool receiving) {
        receiving_ = receiving;
        const auto* chain = ruleset_.chain(name);
        if (chain == nullptr || !chain->hook) return true;
        const auto outcome = walk(*chain, 0);
        const bool dropped = outcome == Outcome::dropped || (outcome != Outcome::accepted && !chain->hook->accept_by_default);
        if (dropped || trace_.hook.empty()) trace_.hook = fmt::format("{} (priority {})", name, chain->hook->priority);
        return !dropped;
    }

private:
    using Register = std::optional<std::vector<std::uint8_t>>;  // nullopt: the expression broke off, the rule does not match

    Outcome walk(const Chain& chain, int depth) {
        if (depth > most_jumps) return Outcome::dropped;
        for (const auto& rule : chain.rules) {
            const auto* verdict = match(chain, rule);
            if (verdict == nullptr) continue;
            switch (verdict->kind) {
                case expr::Verdict::Kind::accept: return Outcome::accepted;
                case expr::Verdict::Kind::drop: return Outcome::dropped;
                case expr::Verdict::Kind::return_to: return Outcome::next_rule;
                case expr::Verdict::Kind::jump: case expr::Verdict::Kind::go_to: break;
            }
            const auto* target = ruleset_.chain(verdict->chain);
            const auto outcome = target == nullptr ? Outcome::end_of_chain : walk(*target, depth + 1);
            if (outcome == Outcome::accepted || outcome == Outcome::dropped || verdict->kind == expr::Verdict::Kind::go_to) return outcome;
        }
        return Outcome::end_of_chain;
    }

    /// The verdict of a rule that matches; null where it does not, or has none.
    const expr::Verdict* match(const Chain& chain, const Rule& rule) {
        static const expr::Verdict drop{expr::Verdict::Kind::drop, {}};
        Register loaded;
        for (const auto& expression : rule.expressions) {
            if (const auto* verdict = std::get_if<expr::Verdict>(&expression)) {
                note(chain, rule, "");
                return verdict;
            }
            if (std::holds_alternative<expr::Reject>(expression)) {
                note(chain, rule, "");
                trace_.rejected = true;
                return &drop;
            }
            if (!step(chain, rule, expression, loaded)) return nullptr;
        }
        return nullptr;
    }

    bool step(const Chain& chain, const Rule& rule, const Expression& expression, Register& loaded) {
        if (const auto* lookup = std::get_if<expr::Lookup>(&expression)) return look_up(chain, rule, *lookup, loaded);
        if (const auto* compare = std::get_if<expr::Compare>(&expression)) return loaded && compared(*compare, *loaded);
        if (const auto* mask = std::get_if<expr::Mask>(&expression)) {
            if (!loaded || loaded->size() != mask->mask.size()) return false;
            for (std::size_t i = 0; i < loaded->size(); ++i) (*loaded)[i] &= mask->mask[i];
            return true;
        }
        if (std::holds_alternative<expr::Count>(expression)) return true;
        // A limit on logging decides nothing; what another's expression would say cannot be known.
        if (std::holds_alternative<expr::Limit>(expression) || std::holds_alternative<expr::Log>(expression)) return true;
        if (std::holds_alternative<expr::Foreign>(expression)) {
            note(chain, rule, "an expression that promwarden does not write; whether it matches is not known");
            return false;
        }
        loaded = load(expression);
        return loaded.has_value();
    }

    [[nodiscard]] Register load(const Expression& expression) const {
        if (const auto* meta = std::get_if<expr::Meta>(&expression)) return load_meta(meta->key);
        if (const auto* payload = std::get_if<expr::Payload>(&expression)) return load_payload(*payload);
        if (std::holds_alternative<expr::FibDestinationType>(expression)) return bytes_of(std::uint32_t{RTN_LOCAL});
        if (std::holds_alternative<expr::CtStatus>(expression)) return bytes_of(std::uint32_t{0});
        return std::nullopt;  // no socket to speak of
    }

    [[nodiscard]] Register load_meta(expr::Meta::Key key) const {
        using Key = expr::Meta::Key;
        const std::uint32_t index = packet_.loopback ? 1 : 2;
        std::vector<std::uint8_t> name(16);
        if (packet_.loopback) std::ranges::copy(std::string_view("lo"), name.begin());
        switch (key) {
            case Key::nfproto: return std::vector<std::uint8_t>{packet_.source.family == Family::ip4 ? std::uint8_t{NFPROTO_IPV4} : std::uint8_t{NFPROTO_IPV6}};
            case Key::l4proto: return std::vector<std::uint8_t>{packet_.protocol == Protocol::tcp ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP}};
            case Key::iif: return receiving_ ? Register(bytes_of(index)) : std::nullopt;
            case Key::oif: return receiving_ ? std::nullopt : Register(bytes_of(index));
            case Key::iifname: return receiving_ ? Register(name) : std::nullopt;
            case Key::oifname: return receiving_ ? std::nullopt : Register(name);
            case Key::skuid: return packet_.user ? Register(bytes_of(*packet_.user)) : std::nullopt;
        }
        return std::nullopt;
    }

    [[nodiscard]] Register load_payload(const expr::Payload& payload) const {
        const auto& source = packet_.source;
        if (payload.base == expr::Payload::Base::transport && payload.offset == 2 && payload.length == 2)
            return std::vector<std::uint8_t>{static_cast<std::uint8_t>(packet_.port >> 8), static_cast<std::uint8_t>(packet_.port)};
        if (payload.base == expr::Payload::Base::network && payload.length == source.packed().size() && payload.offset == (source.family == Family::ip4 ? 12 : 8))
            return std::vector<std::uint8_t>(source.packed().begin(), source.packed().end());
        return std::nullopt;
    }

    static bool compared(const expr::Compare& compare, const std::vector<std::uint8_t>& loaded) {
        const auto length = std::min(loaded.size(), compare.value.size());  // a shorter value compares a prefix, as with "docker*"
        const int order = std::memcmp(loaded.data(), compare.value.data(), length);
        switch (compare.op) {
            case expr::Compare::Op::eq: return order == 0;
            case expr::Compare::Op::neq: return order != 0;
            case expr::Compare::Op::lt: return order < 0;
            case expr::Compare::Op::lte: return order <= 0;
            case expr::Compare::Op::gt: return order > 0;
            case expr::Compare::Op::gte: return order >= 0;
        }
        return false;
    }

    bool look_up(const Chain& chain, const Rule& rule, const expr::Lookup& lookup, const Register& loaded) {
        const auto* set = ruleset_.set(lookup.set);
        if (set == nullptr || set->elements == nullptr || !loaded || loaded->size() != set->elements->width()) return false;
        const bool inside = set->elements->contains(*loaded);
        const bool address = set->type == Set::Type::ip4 || set->type == Set::Type::ip6;
        if (address) trace_.guarded = true;
        if (inside != lookup.inverted) {
            if (address && inside) admit(*set, rule, *loaded);
            return true;
        }
        if (address) note(chain, rule, fmt::format("{} is not in {}", to_text(packet_.source), set->name));
        return false;
    }

    void admit(const Set& set, const Rule& rule, const std::vector<std::uint8_t>& key) {
        trace_.set = set.name;
        Address network{set.type == Set::Type::ip4 ? Family::ip4 : Family::ip6, {}};
        std::ranges::copy(key, network.bytes.begin());
        int prefix = bits_of(network.family);
        for (const auto& expression : rule.expressions)
            if (const auto* mask = std::get_if<expr::Mask>(&expression)) {
                prefix = 0;
                for (const auto byte : mask->mask) prefix += std::popcount(byte);
            }
        trace_.network = Cidr{network, static_cast<std::uint8_t>(prefix)};
    }

    void note(const Chain& chain, const Rule& rule, std::string text) { trace_.steps.push_back({chain.name, to_text(rule), std::move(text)}); }

    const Ruleset& ruleset_;
    const Packet& packet_;
    Trace& trace_;
    bool receiving_ = true;
};

}  // namespace

Trace trace(const Ruleset& ruleset, const Packet& packet) {
    Trace result;
    if (ruleset.dormant) return result;
    Walk walk(ruleset, packet, result);
    // What a local process sends is judged where it leaves; then it comes in by loopback.
    if (packet.loopback) result.passes = walk.pass("guard_out", false);
    if (result.passes) result.passes = walk.pass("guard_pre", true) && walk.pass("guard_in", true);
    return result;
}

}  // namespace promwarden::firewall
