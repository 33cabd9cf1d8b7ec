// Sockets by sock_diag (inet_diag, version 2).

#include <algorithm>

#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "netlink.hpp"
#include "sockets.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_connections = 100'000;  // peers open them; they must not fill our memory

Address address_of(std::uint8_t family, const __be32 (&words)[4]) {
    Address address;
    address.family = family == AF_INET ? Family::ip4 : Family::ip6;
    std::memcpy(address.bytes.data(), words, width_of(address.family));
    constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (address.family == Family::ip4 || std::memcmp(address.bytes.data(), mapped.data(), mapped.size()) != 0) return address;
    Address plain;
    std::copy_n(address.bytes.begin() + mapped.size(), 4, plain.bytes.begin());
    return plain;
}

constexpr std::array<std::uint8_t, 2> families{AF_INET, AF_INET6};

Request sockets_request(std::uint8_t family, int protocol, std::uint32_t states) {
    inet_diag_req_v2 query{};
    query.sdiag_family = family;
    query.sdiag_protocol = static_cast<std::uint8_t>(protocol);
    query.idiag_states = states;
    return {SOCK_DIAG_BY_FAMILY, query};
}

/// A kernel without IPv6 has no such sockets.
bool no_such_family(const Error& error) { return error.number == ENOENT || error.number == EAFNOSUPPORT; }

void read_listener(const Message& message, Protocol protocol, std::vector<Listener>& listeners) {
    const auto socket = body_of<inet_diag_msg>(message);
    if (!socket || socket->id.idiag_sport == 0) return;  // a UDP socket that is not bound yet
    Listener listener;
    listener.protocol = protocol;
    listener.endpoint = {address_of(socket->idiag_family, socket->id.idiag_src), ntohs(socket->id.idiag_sport)};
    listener.uid = socket->idiag_uid;
    listener.inode = socket->idiag_inode;
    if (listener.endpoint.address.family == Family::ip6)
        listener.v6only = number<std::uint8_t>(find(attributes_of<inet_diag_msg>(message), INET_DIAG_SKV6ONLY)).value_or(0) != 0;
    listeners.push_back(std::move(listener));
}

void put(std::vector<std::uint8_t>& code, std::uint8_t operation, std::uint8_t yes, std::size_t no) {
    const inet_diag_bc_op op{operation, yes, static_cast<std::uint16_t>(no)};
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&op);
    code.insert(code.end(), bytes, bytes + sizeof op);
}

/// "The local port is in one of the ranges" for the kernel's little filter machine (net/ipv4/inet_diag.c). `yes` and `no` are distances in bytes; landing on
/// the end accepts, one operation beyond it rejects. Each range is ≥ first, ≤ last, jump to the end.
std::vector<std::uint8_t> port_filter(std::span<const PortRange> ports) {
    constexpr std::size_t operation = sizeof(inet_diag_bc_op), comparison = 2 * operation, block = 2 * comparison + operation;
    std::vector<std::uint8_t> code;
    for (std::size_t i = 0; i < ports.size(); ++i) {
        const bool last = i + 1 == ports.size();
        const auto beyond = last ? operation : 0;
        put(code, INET_DIAG_BC_S_GE, comparison, block + beyond);
        put(code, 0, 0, ports[i].first);
        put(code, INET_DIAG_BC_S_LE, comparison, block - comparison + beyond);
        put(code, 0, 0, ports[i].last);
        put(code, INET_DIAG_BC_JMP, operation, operation + block * (ports.size() - 1 - i));
    }
    return code;
}

}  // namespace

bool in_ranges(std::uint16_t port, std::span<const PortRange> ports) {
    return std::ranges::any_of(ports, [port](const PortRange& range) { return range.first <= port && port <= range.last; });
}

Result<std::vector<Connection>> established(std::span<const std::uint8_t> filter, const std::function<bool(const Connection&)>& wanted) {
    auto netlink = TRY(Netlink::open(NETLINK_SOCK_DIAG));
    // The first form of this request: it lists both families, and the kernel walks its table of all connections once instead of twice.
    inet_diag_req query{};
    query.idiag_states = 1U << TCP_ESTABLISHED;
    Request request{TCPDIAG_GETSOCK, query};
    if (!filter.empty()) request.attribute(INET_DIAG_REQ_BYTECODE, filter);
    std::vector<Connection> all;
    const auto read = [&](const Message& message) {
        const auto socket = body_of<inet_diag_msg>(message);
        if (!socket || all.size() > most_connections) return;
        Connection connection{{address_of(socket->idiag_family, socket->id.idiag_src), ntohs(socket->id.idiag_sport)},
                              {address_of(socket->idiag_family, socket->id.idiag_dst), ntohs(socket->id.idiag_dport)},
                              socket->idiag_inode};
        if (wanted(connection)) all.push_back(connection);
    };
    TRY(netlink.dump(std::move(request), "TCP connections", [&] { all.clear(); }, read));
    if (all.size() > most_connections) return fail(Code::limit, "read", "TCP connections", fmt::format("more than {}", most_connections));
    return all;
}

Result<std::vector<Listener>> read_listeners() {
    auto netlink = TRY(Netlink::open(NETLINK_SOCK_DIAG));
    std::vector<Listener> all;
    for (const auto protocol : {Protocol::tcp, Protocol::udp}) {
        const bool tcp = protocol == Protocol::tcp;
        for (const auto family : families) {
            auto found = collect<Listener>(netlink, sockets_request(family, tcp ? IPPROTO_TCP : IPPROTO_UDP, 1U << (tcp ? TCP_LISTEN : TCP_CLOSE)),
                                           tcp ? "listening TCP sockets" : "bound UDP sockets",
                                           [&](const Message& message, std::vector<Listener>& items) { read_listener(message, protocol, items); });
            if (!found && family == AF_INET6 && no_such_family(found.error())) continue;
            if (!found) return found;
            std::ranges::move(*found, std::back_inserter(all));
        }
    }
    return all;
}

Result<std::vector<Connection>> read_connections(std::span<const PortRange> ports) {
    if (ports.empty()) return std::vector<Connection>{};
    constexpr std::size_t most_ranges = 3000;  // jumps are 16 bits wide
    if (ports.size() > most_ranges) return fail(Code::limit, "read", "TCP connections", fmt::format("more than {} port ranges", most_ranges));
    return established(port_filter(ports), [](const Connection&) { return true; });
}

}  // namespace promwarden::host
