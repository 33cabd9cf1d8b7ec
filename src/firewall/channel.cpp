#include "channel.hpp"

#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libnftnl/common.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

namespace promwarden::firewall {

namespace {

constexpr std::size_t receive_size = 64 << 10;  // the kernel fills up to 32 KiB a datagram; smaller buffers make dumps quadratic

/// The kernel's own numbers, in this subsystem's meaning.
std::unexpected<Error> refused(int number, std::string what) {
    if (number == ENFILE) return fail(Code::limit, std::move(what), "", "the set is full");
    if (number == ERESTART) return fail(Code::stale, std::move(what), "", "the ruleset changed meanwhile");
    if (number == EPERM) return std::unexpected(Error{Code::denied, number, std::move(what), "", "not permitted, or the table is owned by another process"});
    return fail_errno(std::move(what), "", number);
}

}  // namespace

std::string string_of(const nlattr* attribute) {
    if (attribute == nullptr) return {};
    const auto* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
    return {text, ::strnlen(text, mnl_attr_get_payload_len(attribute))};
}

std::uint32_t number_of(const nlattr* attribute) {
    return attribute == nullptr || mnl_attr_get_payload_len(attribute) < 4 ? 0 : ntohl(mnl_attr_get_u32(attribute));
}

std::uint64_t long_number_of(const nlattr* attribute) {
    return attribute == nullptr || mnl_attr_get_payload_len(attribute) < 8 ? 0 : be64toh(mnl_attr_get_u64(attribute));
}

void append_keys(const nlmsghdr& message, std::size_t width, std::vector<std::uint8_t>& bytes) {
    const auto top = attributes<NFTA_SET_ELEM_LIST_MAX + 1>(message);
    if (top[NFTA_SET_ELEM_LIST_ELEMENTS] == nullptr) return;
    each_nested(top[NFTA_SET_ELEM_LIST_ELEMENTS], [&](const nlattr* element) {
        const auto* key = nested<NFTA_SET_ELEM_MAX + 1>(element)[NFTA_SET_ELEM_KEY];
        const auto* value = key == nullptr ? nullptr : nested<NFTA_DATA_MAX + 1>(key)[NFTA_DATA_VALUE];
        if (value == nullptr || mnl_attr_get_payload_len(value) != width) return;
        const auto* first = static_cast<const std::uint8_t*>(mnl_attr_get_payload(value));
        bytes.insert(bytes.end(), first, first + width);
    });
}

Generation generation_of(const nlmsghdr& message) {
    const auto parts = attributes<NFTA_GEN_MAX + 1>(message);
    return {number_of(parts[NFTA_GEN_ID]), static_cast<pid_t>(number_of(parts[NFTA_GEN_PROC_PID])), string_of(parts[NFTA_GEN_PROC_NAME])};
}

Result<std::unique_ptr<Channel>> Channel::open(Fd inherited) {
    mnl_socket* socket = inherited ? mnl_socket_fdopen(inherited.release()) : mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (socket == nullptr) return fail_errno("open netlink socket", "nf_tables");
    std::unique_ptr<Channel> channel(new Channel(socket));
    if (mnl_socket_get_portid(socket) == 0 && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) != 0) return fail_errno("bind netlink socket", "nf_tables");
    const int on = 1;
    mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, const_cast<int*>(&on), sizeof on);  // an error need not echo 60 KiB of elements
    return channel;
}

Result<> Channel::send(std::span<const std::uint8_t> bytes) {
    // The batch is one datagram; it must fit the socket's buffer, for which the kernel counts its own overhead too.
    if (bytes.size() > send_room_) {
        const int room = static_cast<int>(bytes.size() + (64 << 10));
        if (::setsockopt(fd(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0 && bytes.size() > 100'000) return fail_errno("reserve a send buffer", "nf_tables");
        send_room_ = bytes.size();
    }
    if (mnl_socket_sendto(socket_.get(), bytes.data(), bytes.size()) < 0) return fail_errno("send to", "nf_tables");
    return {};
}

Result<> Channel::ask(std::uint16_t type, std::uint8_t family, std::uint16_t flags, const std::function<void(nlmsghdr*)>& fill, const Each& each) {
    std::array<char, 2048> request{};
    auto* message = nftnl_nlmsg_build_hdr(request.data(), type, family, flags, ++sequence_);
    if (fill) fill(message);
    TRY(send({reinterpret_cast<const std::uint8_t*>(message), message->nlmsg_len}));
    if (!buffer_) buffer_ = std::make_unique_for_overwrite<char[]>(receive_size);
    bool interrupted = false;
    for (;;) {
        const auto got = mnl_socket_recvfrom(socket_.get(), buffer_.get(), receive_size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read from", "nf_tables");
        int left = static_cast<int>(got);
        for (const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer_.get()); mnl_nlmsg_ok(answer, left); answer = mnl_nlmsg_next(answer, &left)) {
            if (answer->nlmsg_seq != sequence_) continue;  // of a request that failed half-way
            interrupted |= (answer->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (answer->nlmsg_type == NLMSG_ERROR) {
                const int number = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
                if (number != 0) return refused(number, "read the ruleset");
                return {};
            }
            if (answer->nlmsg_type == NLMSG_DONE) {
                if (interrupted) return fail(Code::stale, "read the ruleset", "", "it changed while it was read");
                return {};
            }
            each(*answer);
            if ((flags & NLM_F_DUMP) == 0) return {};
        }
    }
}

Result<> Channel::transact(const Batch& batch) { return transact(batch.bytes(), batch.last_sequence(), &batch); }

Result<> Channel::transact(std::span<const std::uint8_t> bytes, std::uint32_t last, const Batch* labels) {
    TRY(send(bytes));
    // Everything the kernel has to say is queued before send returns.
    std::array<char, 8192> buffer{};
    std::optional<Error> first;
    bool acknowledged = false;
    for (;;) {
        const auto got = ::recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (got < 0 && errno == ENOBUFS) continue;  // more errors than fit; the first of them were read
        if (got < 0) return fail_errno("read from", "nf_tables");
        int left = static_cast<int>(got);
        for (const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(answer, left); answer = mnl_nlmsg_next(answer, &left)) {
            if (answer->nlmsg_type != NLMSG_ERROR) continue;
            const int number = -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
            if (number == 0) acknowledged |= answer->nlmsg_seq == last;
            else if (!first) first = refused(number, labels == nullptr ? "load the ruleset" : labels->label(answer->nlmsg_seq)).error();
        }
    }
    if (first) return std::unexpected(*std::move(first));
    if (!acknowledged) return fail(Code::failed, "load the ruleset", "", "the kernel did not acknowledge it");
    return {};
}

}  // namespace promwarden::firewall
