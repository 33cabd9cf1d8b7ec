#include "netlink.hpp"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace promwarden::host {

namespace {

constexpr std::size_t buffer_size = 64 * 1024;  // the kernel fills at most 32 KiB of a dump at once
constexpr int most_attempts = 10;
constexpr timeval patience{5, 0};  // the kernel answers at once; this bounds a wait that a kernel bug would make endless

}  // namespace

Request::Request(std::uint16_t type, Bytes body) : bytes_(MNL_NLMSG_HDRLEN + MNL_ALIGN(body.size())) {
    auto* header = mnl_nlmsg_put_header(bytes_.data());
    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    std::memcpy(mnl_nlmsg_put_extra_header(header, body.size()), body.data(), body.size());
}

Request& Request::attribute(std::uint16_t type, Bytes value) {
    bytes_.resize(bytes_.size() + MNL_ATTR_HDRLEN + MNL_ALIGN(value.size()));
    mnl_attr_put(reinterpret_cast<nlmsghdr*>(bytes_.data()), type, value.size(), value.data());
    return *this;
}

void for_each_attribute(Bytes attributes, const std::function<void(std::uint16_t, Bytes)>& visit) {
    const auto* end = attributes.data() + attributes.size();
    const auto* attribute = reinterpret_cast<const nlattr*>(attributes.data());
    const auto left = [&] { return static_cast<int>(end - reinterpret_cast<const std::uint8_t*>(attribute)); };
    for (; mnl_attr_ok(attribute, left()); attribute = mnl_attr_next(attribute))
        visit(mnl_attr_get_type(attribute), Bytes(static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)));
}

Bytes find(Bytes attributes, std::uint16_t type) {
    Bytes found;
    for_each_attribute(attributes, [&](std::uint16_t each, Bytes value) {
        if (each == type && found.data() == nullptr) found = value;
    });
    return found;
}

std::string text(Bytes value) {
    const auto* characters = reinterpret_cast<const char*>(value.data());
    return {characters, value.empty() ? 0 : ::strnlen(characters, value.size())};
}

Result<Fd> open_netlink(int protocol, std::uint32_t groups, int flags) {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol)};
    if (!socket) return fail_errno("open", "netlink socket");
    sockaddr_nl name{};
    name.nl_family = AF_NETLINK;
    name.nl_groups = groups;
    if (::bind(*socket, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) return fail_errno("bind", "netlink socket");
    if (::setsockopt(*socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) return fail_errno("set up", "netlink socket");
    return socket;
}

Result<std::optional<Bytes>> receive(const Fd& socket, std::vector<std::uint8_t>& buffer) {
    buffer.resize(buffer_size);
    while (true) {
        sockaddr_nl sender{};
        iovec part{buffer.data(), buffer.size()};
        msghdr message{};
        message.msg_name = &sender;
        message.msg_namelen = sizeof sender;
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        const auto length = ::recvmsg(*socket, &message, 0);
        if (length < 0 && errno == EINTR) continue;
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
        if (length < 0) return fail_errno("receive", "netlink message");
        if (message.msg_namelen != sizeof sender || sender.nl_pid != 0) continue;  // not the kernel's
        if ((message.msg_flags & MSG_TRUNC) != 0) return fail_errno("receive", "netlink message", EMSGSIZE);
        return Bytes(buffer).first(static_cast<std::size_t>(length));
    }
}

void for_each_message(Bytes datagram, const std::function<bool(const nlmsghdr&, const Message&)>& visit) {
    auto left = static_cast<int>(datagram.size());
    const auto* header = reinterpret_cast<const nlmsghdr*>(datagram.data());
    for (; mnl_nlmsg_ok(header, left); header = mnl_nlmsg_next(header, &left)) {
        const Bytes payload(static_cast<const std::uint8_t*>(mnl_nlmsg_get_payload(header)), mnl_nlmsg_get_payload_len(header));
        if (!visit(*header, {header->nlmsg_type, payload})) return;
    }
}

Result<Netlink> Netlink::open(int protocol) {
    Netlink netlink;
    netlink.protocol_ = protocol;
    netlink.socket_ = TRY(open_netlink(protocol));
    return netlink;
}

Result<> Netlink::dump(Request request, const std::string& what, const std::function<void()>& restart, const Visit& visit) {
    for (int i = 0; i < most_attempts; ++i) {
        restart();
        auto outcome = attempt(request.bytes(), what, visit);
        if (outcome && *outcome == Outcome::complete) return {};
        if (!outcome && outcome.error().number != ENOBUFS) return std::unexpected(std::move(outcome).error());
        if (!outcome) socket_ = TRY(open_netlink(protocol_));  // the end of that dump was lost with it
    }
    return fail(Code::stale, "read", what, "changed during each of 10 attempts");
}

Result<Netlink::Outcome> Netlink::attempt(std::vector<std::uint8_t>& request, const std::string& what, const Visit& visit) {
    auto* header = reinterpret_cast<nlmsghdr*>(request.data());
    header->nlmsg_seq = ++sequence_;
    while (::send(*socket_, request.data(), request.size(), 0) < 0)
        if (errno != EINTR) return fail_errno("ask for", what);
    bool interrupted = false, done = false;
    int number = 0;
    while (!done) {
        const auto datagram = TRY(receive(socket_, buffer_));
        if (!datagram) return fail_errno("read", what, ETIMEDOUT);
        for_each_message(*datagram, [&](const nlmsghdr& each, const Message& message) {
            if (each.nlmsg_seq != sequence_) return true;  // of an earlier request
            interrupted = interrupted || (each.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (each.nlmsg_type == NLMSG_ERROR || each.nlmsg_type == NLMSG_DONE) {
                // Both begin with an error number: a dump may also fail at its end.
                number = -promwarden::host::number<std::int32_t>(message.payload).value_or(0);
                done = true;
                return false;
            }
            if (!interrupted && each.nlmsg_type >= NLMSG_MIN_TYPE) visit(message);
            return true;
        });
    }
    if (number == EINTR) interrupted = true;
    else if (number != 0) return fail_errno("read", what, number);
    return interrupted ? Outcome::interrupted : Outcome::complete;
}

}  // namespace promwarden::host
