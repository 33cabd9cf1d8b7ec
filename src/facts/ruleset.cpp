// Rules in nft's words, and the small questions one asks a Ruleset.

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "promwarden/ruleset.hpp"

namespace promwarden {

namespace {

template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};

constexpr std::array<std::string_view, 5> hook_names{"prerouting", "input", "forward", "output", "postrouting"};
constexpr std::array<std::string_view, 6> operators{"", "!= ", "< ", "<= ", "> ", ">= "};

std::uint32_t host_number(std::span<const std::uint8_t> value) {
    std::uint32_t number = 0;
    std::memcpy(&number, value.data(), std::min(value.size(), sizeof number));
    return number;
}

std::uint32_t network_number(std::span<const std::uint8_t> value) {
    std::uint32_t number = 0;
    for (const auto byte : value.first(std::min(value.size(), sizeof number))) number = number << 8 | byte;
    return number;
}

std::string hex(std::span<const std::uint8_t> value) { return fmt::format("0x{:02x}", fmt::join(value, "")); }

std::string name_in(std::span<const std::uint8_t> value) {
    std::string name;
    for (const auto byte : value) {
        if (byte == 0) return name;
        name += static_cast<char>(byte);
    }
    return name + (value.size() < 16 ? "*" : "");  // shorter than a whole name: any that begins so
}

/// What a rule has loaded so far decides how the value it is compared with is written.
class RuleText {
public:
    void operator()(const expr::Meta& meta) {
        constexpr std::array<std::string_view, 7> names{"meta nfproto", "meta l4proto", "iif", "iifname", "oif", "oifname", "meta skuid"};
        left_ = names[static_cast<std::size_t>(meta.key)];
        loaded_ = meta.key;
    }
    void operator()(const expr::Payload& payload) {
        loaded_.reset();
        if (payload.base == expr::Payload::Base::transport && payload.offset == 2 && payload.length == 2) left_ = "th dport";
        else if (payload.base == expr::Payload::Base::network && payload.offset == 12 && payload.length == 4) left_ = "ip saddr";
        else if (payload.base == expr::Payload::Base::network && payload.offset == 8 && payload.length == 16) left_ = "ip6 saddr";
        else left_ = fmt::format("@{},{},{}", payload.base == expr::Payload::Base::network ? "nh" : "th", payload.offset * 8, payload.length * 8);
    }
    void operator()(const expr::FibDestinationType&) { left_ = "fib daddr type", loaded_.reset(); }
    void operator()(const expr::CtStatus&) { left_ = "ct status", loaded_.reset(); }
    void operator()(const expr::SocketTransparent&) { left_ = "socket transparent", loaded_.reset(); }
    void operator()(const expr::Mask& mask) {
        if (left_ == "ct status") return;  // written together with the comparison that follows
        int bits = 0;
        for (const auto byte : mask.mask) bits += std::popcount(byte);
        left_ += left_.starts_with("ip") ? fmt::format(" & /{}", bits) : fmt::format(" & {}", hex(mask.mask));
    }
    void operator()(const expr::Compare& compare) {
        if (left_ == "ct status") return add("ct status dnat");
        add(fmt::format("{} {}{}", left_, operators[static_cast<std::size_t>(compare.op)], value(compare.value)));
    }
    void operator()(const expr::Lookup& lookup) { add(fmt::format("{} {}@{}", left_, lookup.inverted ? "!= " : "", lookup.set)); }
    void operator()(const expr::Count& count) { add(fmt::format("counter name {}", count.counter)); }
    void operator()(const expr::Limit& limit) {
        const auto unit = limit.unit.count();
        add(fmt::format("limit rate {}/{}", limit.rate, unit == 1 ? "second" : unit == 60 ? "minute" : unit == 3600 ? "hour" : "day"));
    }
    void operator()(const expr::Log& log) { add(fmt::format("log prefix \"{}\"{}", log.prefix, log.group == 0 ? "" : fmt::format(" group {}", log.group))); }
    void operator()(const expr::Reject& reject) { add(reject.tcp_reset ? "reject with tcp reset" : "reject"); }
    void operator()(const expr::Verdict& verdict) {
        constexpr std::array<std::string_view, 5> names{"accept", "drop", "jump", "goto", "return"};
        const auto name = names[static_cast<std::size_t>(verdict.kind)];
        add(verdict.chain.empty() ? std::string(name) : fmt::format("{} {}", name, verdict.chain));
    }
    void operator()(const expr::Foreign& foreign) { add(foreign.name); }

    [[nodiscard]] std::string text() const { return fmt::format("{}", fmt::join(words_, " ")); }

private:
    void add(std::string words) { words_.push_back(std::move(words)); }

    [[nodiscard]] std::string value(std::span<const std::uint8_t> bytes) const {
        using Key = expr::Meta::Key;
        if (loaded_ == Key::nfproto) return bytes[0] == 2 ? "ipv4" : bytes[0] == 10 ? "ipv6" : fmt::format("{}", bytes[0]);
        if (loaded_ == Key::l4proto) return bytes[0] == 6 ? "tcp" : bytes[0] == 17 ? "udp" : fmt::format("{}", bytes[0]);
        if (loaded_ == Key::iif || loaded_ == Key::oif) return host_number(bytes) == 1 ? "\"lo\"" : fmt::format("{}", host_number(bytes));
        if (loaded_ == Key::iifname || loaded_ == Key::oifname) return fmt::format("\"{}\"", name_in(bytes));
        if (loaded_ == Key::skuid) return fmt::format("{}", host_number(bytes));
        if (left_ == "fib daddr type") return host_number(bytes) == 1 ? "unicast" : host_number(bytes) == 2 ? "local" : fmt::format("{}", host_number(bytes));
        if (left_ == "th dport") return fmt::format("{}", network_number(bytes));
        if (left_ == "socket transparent") return fmt::format("{}", bytes[0]);
        return hex(bytes);
    }

    std::vector<std::string> words_;
    std::string left_;
    std::optional<expr::Meta::Key> loaded_;
};

}  // namespace

bool Set::operator==(const Set& other) const {
    if (type != other.type || name != other.name || flags != other.flags) return false;
    return elements == nullptr || other.elements == nullptr || elements == other.elements || *elements == *other.elements;
}

const Chain* Ruleset::chain(std::string_view name) const {
    const auto found = std::ranges::find(chains, name, &Chain::name);
    return found == chains.end() ? nullptr : &*found;
}

const Set* Ruleset::set(std::string_view name) const {
    const auto found = std::ranges::find(sets, name, &Set::name);
    return found == sets.end() ? nullptr : &*found;
}

std::string to_text(const Rule& rule) {
    RuleText text;
    for (const auto& expression : rule.expressions) std::visit(text, expression);
    return text.text();
}

std::string to_text(const Hook& hook) {
    return fmt::format("type filter hook {} priority {}; policy {}", hook_names[static_cast<std::size_t>(hook.point)], hook.priority, hook.accept_by_default ? "accept" : "drop");
}

std::string element_text(Set::Type type, std::span<const std::uint8_t> key) {
    switch (type) {
        case Set::Type::interface: return name_in(key);
        case Set::Type::user: return fmt::format("uid {}", host_number(key));
        case Set::Type::ip4: case Set::Type::ip6: break;
    }
    Address address{type == Set::Type::ip4 ? Family::ip4 : Family::ip6, {}};
    std::ranges::copy(key, address.bytes.begin());
    return to_text(address);
}

std::size_t key_width(Set::Type type) { return type == Set::Type::ip4 || type == Set::Type::user ? 4 : 16; }

}  // namespace promwarden
