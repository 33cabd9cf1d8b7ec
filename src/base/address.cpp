#include <algorithm>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>

#include "promwarden/address.hpp"

namespace promwarden {

namespace {

/// Dotted quad, strictly: four decimal numbers without leading zeros. By hand because lists have a million of them.
bool parse_ip4(std::string_view text, std::array<std::uint8_t, 16>& bytes) {
    std::size_t at = 0;
    for (int part = 0; part < 4; ++part) {
        if (part > 0 && (at >= text.size() || text[at++] != '.')) return false;
        unsigned value = 0;
        const auto start = at;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - start < 4) value = value * 10 + static_cast<unsigned>(text[at++] - '0');
        const auto digits = at - start;
        if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && text[start] == '0')) return false;
        bytes[static_cast<std::size_t>(part)] = static_cast<std::uint8_t>(value);
    }
    return at == text.size();
}

bool parse_ip6(std::string_view text, std::array<std::uint8_t, 16>& bytes) {
    if (text.size() >= INET6_ADDRSTRLEN) return false;
    char terminated[INET6_ADDRSTRLEN] = {};
    std::ranges::copy(text, terminated);
    return text.find('\0') == std::string_view::npos && ::inet_pton(AF_INET6, terminated, bytes.data()) == 1;
}

bool mapped(const Address& address) {
    constexpr std::array<std::uint8_t, 12> prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return address.family == Family::ip6 && std::equal(prefix.begin(), prefix.end(), address.bytes.begin());
}

template <class Number>
std::optional<Number> decimal(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || (text.size() > 1 && text[0] == '0')) return std::nullopt;
    return value;
}

}  // namespace

Address Address::masked(std::uint8_t prefix) const {
    Address result = *this;
    const auto width = width_of(family);
    for (std::size_t i = 0; i < width; ++i) {
        const int keep = std::clamp(static_cast<int>(prefix) - static_cast<int>(i * 8), 0, 8);
        result.bytes[i] &= static_cast<std::uint8_t>(0xff00 >> keep);
    }
    return result;
}

Result<Address> parse_address(std::string_view text) {
    Address address;
    if (parse_ip4(text, address.bytes)) return address;
    if (text.find('%') != std::string_view::npos)
        return fail(Code::invalid, "read address", std::string(text), "a zone identifier names an interface of one host and cannot be matched in a packet");
    address.family = Family::ip6;
    if (text.find(':') != std::string_view::npos && parse_ip6(text, address.bytes)) return address;
    return fail(Code::invalid, "read address", std::string(text), "not an IPv4 or IPv6 address");
}

std::string to_text(const Address& address) {
    char text[INET6_ADDRSTRLEN] = {};
    ::inet_ntop(address.family == Family::ip4 ? AF_INET : AF_INET6, address.bytes.data(), text, sizeof text);
    return text;
}

bool Cidr::contains(const Address& other) const { return other.family == address.family && other.masked(prefix) == address; }

Result<Cidr> parse_cidr(std::string_view text) {
    const auto slash = text.find('/');
    auto parsed = parse_address(text.substr(0, slash));
    if (!parsed) {
        parsed.error().action = "read network";
        parsed.error().subject = std::string(text);
        return std::unexpected(parsed.error());
    }
    Cidr cidr{*parsed, bits_of(parsed->family)};
    if (mapped(cidr.address))
        return fail(Code::invalid, "read network", std::string(text), "an IPv4-mapped IPv6 address never appears in a packet; write the IPv4 address");
    if (slash != std::string_view::npos) {
        const auto prefix = decimal<unsigned>(text.substr(slash + 1));
        if (!prefix || *prefix > bits_of(cidr.address.family))
            return fail(Code::invalid, "read network", std::string(text), fmt::format("the prefix length must be 0 to {}", bits_of(cidr.address.family)));
        cidr.prefix = static_cast<std::uint8_t>(*prefix);
    }
    const auto network = cidr.address.masked(cidr.prefix);
    if (network != cidr.address)
        return fail(Code::invalid, "read network", std::string(text),
                    fmt::format("it has host bits set; the network is {}/{}", to_text(network), cidr.prefix));
    return cidr;
}

std::string to_text(const Cidr& cidr) { return fmt::format("{}/{}", to_text(cidr.address), cidr.prefix); }

Result<Endpoint> parse_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    std::string_view host = text.substr(0, colon == std::string_view::npos ? text.size() : colon);
    const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    const auto port = colon == std::string_view::npos ? std::nullopt : decimal<std::uint16_t>(text.substr(colon + 1));
    const auto address = parse_address(host);
    if (!port || *port == 0 || !address || bracketed != (address->family == Family::ip6))
        return fail(Code::invalid, "read endpoint", std::string(text), "write ADDRESS:PORT or [ADDRESS]:PORT, with a port of 1 to 65535");
    return Endpoint{*address, *port};
}

std::string to_text(const Endpoint& endpoint) {
    const auto host = to_text(endpoint.address);
    return endpoint.address.family == Family::ip4 ? fmt::format("{}:{}", host, endpoint.port) : fmt::format("[{}]:{}", host, endpoint.port);
}

}  // namespace promwarden
