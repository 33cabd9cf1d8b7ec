// One netlink socket to nf_tables: requests, dumps, transactions.
#pragma once

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "batch.hpp"

namespace promwarden::firewall {

class Channel {
public:
    static Result<std::unique_ptr<Channel>> open(Fd inherited);

    using Each = std::function<void(const nlmsghdr&)>;
    /// Sends one request made by `fill` and hands every answer to `each`. A dump that was interrupted is Code::stale.
    Result<> ask(std::uint16_t type, std::uint8_t family, std::uint16_t flags, const std::function<void(nlmsghdr*)>& fill, const Each& each);
    /// Sends a finished batch and reads its acknowledgement or its errors.
    Result<> transact(const Batch& batch);
    /// The same for bytes that were prepared earlier; `last` is the sequence number that is acknowledged.
    Result<> transact(std::span<const std::uint8_t> bytes, std::uint32_t last, const Batch* labels);

    [[nodiscard]] int fd() const { return mnl_socket_get_fd(socket_.get()); }
    [[nodiscard]] std::uint32_t port_id() const { return mnl_socket_get_portid(socket_.get()); }

private:
    explicit Channel(mnl_socket* socket) : socket_(socket) {}
    Result<> send(std::span<const std::uint8_t> bytes);

    Handle<mnl_socket, mnl_socket_close> socket_;
    std::unique_ptr<char[]> buffer_;  // kept: whoever heals a table must not wait for fresh pages
    std::uint32_t sequence_ = 0;
    std::size_t send_room_ = 0;
};

/// Attributes by number, for the few places where libnftnl has no object. (libmnl's own loops are macros of C.)
template <class Visit>
void each_attribute(const void* first, std::size_t size, const Visit& visit) {
    int left = static_cast<int>(size);
    for (const auto* attribute = static_cast<const nlattr*>(first); mnl_attr_ok(attribute, left); attribute = mnl_attr_next(attribute)) {
        visit(attribute);
        left -= static_cast<int>(MNL_ALIGN(attribute->nla_len));
    }
}
template <class Visit>
void each_nested(const nlattr* nest, const Visit& visit) {
    each_attribute(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest), visit);
}
template <std::size_t N>
std::array<const nlattr*, N> attributes(const nlmsghdr& message) {
    std::array<const nlattr*, N> table{};
    if (mnl_nlmsg_get_payload_len(&message) < sizeof(nfgenmsg)) return table;
    each_attribute(mnl_nlmsg_get_payload_offset(&message, sizeof(nfgenmsg)), mnl_nlmsg_get_payload_len(&message) - sizeof(nfgenmsg), [&](const nlattr* attribute) {
        if (mnl_attr_get_type(attribute) < N) table[mnl_attr_get_type(attribute)] = attribute;
    });
    return table;
}
template <std::size_t N>
std::array<const nlattr*, N> nested(const nlattr* nest) {
    std::array<const nlattr*, N> table{};
    each_nested(nest, [&](const nlattr* attribute) {
        if (mnl_attr_get_type(attribute) < N) table[mnl_attr_get_type(attribute)] = attribute;
    });
    return table;
}
/// A string attribute, at most as long as its attribute says; "" where it is missing.
std::string string_of(const nlattr* attribute);
std::uint32_t number_of(const nlattr* attribute);  // 32 bits, from network order
std::uint64_t long_number_of(const nlattr* attribute);

/// Appends the keys in a NEWSETELEM or DELSETELEM message that have this width.
void append_keys(const nlmsghdr& message, std::size_t width, std::vector<std::uint8_t>& bytes);
Generation generation_of(const nlmsghdr& message);

}  // namespace promwarden::firewall
