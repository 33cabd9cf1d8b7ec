/// address — Internet addresses, networks in CIDR notation, and large ordered collections of them. Part of the base room.
///
/// Addresses are kept in network byte order, as packets and the kernel's sets hold them.
#pragma once

#include <array>
#include <cstring>
#include <span>

#include "promwarden/base.hpp"

namespace promwarden {

enum class Family : std::uint8_t { ip4, ip6 };

constexpr std::size_t width_of(Family family) { return family == Family::ip4 ? 4 : 16; }
constexpr std::uint8_t bits_of(Family family) { return family == Family::ip4 ? 32 : 128; }

struct Address {
    Family family = Family::ip4;
    std::array<std::uint8_t, 16> bytes{};  // ip4 uses the first four

    [[nodiscard]] std::span<const std::uint8_t> packed() const { return std::span(bytes).first(width_of(family)); }
    [[nodiscard]] Address masked(std::uint8_t prefix) const;
    auto operator<=>(const Address&) const = default;
};

/// "192.0.2.1" or "2001:db8::1"; no brackets, no zone.
Result<Address> parse_address(std::string_view text);
std::string to_text(const Address& address);

struct Cidr {
    Address address;
    std::uint8_t prefix = 0;

    [[nodiscard]] bool contains(const Address& other) const;
    auto operator<=>(const Cidr&) const = default;
};

/// "10.0.0.0/8", or a plain address for its /32 or /128. Refused, with the reason: host bits set, a prefix too long, a zone identifier, an IPv4-mapped IPv6
/// address (its packets arrive as IPv4), leading zeros.
Result<Cidr> parse_cidr(std::string_view text);
std::string to_text(const Cidr& cidr);

/// An address with a port: "127.0.0.1:9090", "[::1]:9090".
struct Endpoint {
    Address address;
    std::uint16_t port = 0;
    auto operator<=>(const Endpoint&) const = default;
};
Result<Endpoint> parse_endpoint(std::string_view text);
std::string to_text(const Endpoint& endpoint);

/// Keys of one width, packed without gaps, sorted by their bytes, unique. Holds a million addresses in four megabytes.
class PackedKeys {
public:
    explicit PackedKeys(std::size_t width = 4) : width_(width) {}
    /// Takes keys in any order, with repetitions; `bytes.size()` is a multiple of `width`.
    PackedKeys(std::size_t width, std::vector<std::uint8_t> bytes);

    [[nodiscard]] std::size_t width() const { return width_; }
    [[nodiscard]] std::size_t size() const { return bytes_.size() / width_; }
    [[nodiscard]] bool empty() const { return bytes_.empty(); }
    [[nodiscard]] std::span<const std::uint8_t> operator[](std::size_t index) const { return {bytes_.data() + index * width_, width_}; }
    [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }
    [[nodiscard]] bool contains(std::span<const std::uint8_t> key) const;
    bool operator==(const PackedKeys&) const = default;

    /// The keys in `this` that are not in `other`. Long equal stretches are skipped at memcmp speed.
    [[nodiscard]] PackedKeys minus(const PackedKeys& other) const;
    /// This collection without `removed` and with `added`.
    [[nodiscard]] PackedKeys changed(const PackedKeys& removed, const PackedKeys& added) const;

private:
    std::size_t width_;
    std::vector<std::uint8_t> bytes_;
};

/// All networks of one family and prefix length, by their first address. Shared: a change of one class leaves the others as they are.
struct NetworkClass {
    Family family = Family::ip4;
    std::uint8_t prefix = 0;
    std::shared_ptr<const PackedKeys> networks;
    bool operator==(const NetworkClass& other) const;
};

/// Networks by class, ordered by family, then by prefix length from long to short. At most one class per family and length, none empty.
using Networks = std::vector<NetworkClass>;

Networks make_networks(std::span<const Cidr> cidrs);
[[nodiscard]] std::size_t count(const Networks& networks);
/// The longest network that holds the address.
[[nodiscard]] std::optional<Cidr> find(const Networks& networks, const Address& address);

}  // namespace promwarden
