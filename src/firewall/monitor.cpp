// Who changed what: the notifications of nf_tables.

#include <algorithm>

#include <fmt/format.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <sys/socket.h>

#include "channel.hpp"

namespace promwarden::firewall {

namespace {

constexpr int receive_room = 4 << 20;    // a burst larger than this is an overflow, and everything is looked at again
constexpr std::size_t most_named = 20;   // changes named in a record
constexpr std::size_t most_keys = 65536; // elements remembered of one change; beyond it the set is read again

struct Kind {
    std::uint16_t added, removed;
    std::string_view noun;
    std::uint16_t table, name;  // attributes
};
constexpr std::array<Kind, 7> kinds{{{NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, "table", NFTA_TABLE_NAME, NFTA_TABLE_NAME},
                                     {NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN, "chain", NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME},
                                     {NFT_MSG_NEWRULE, NFT_MSG_DELRULE, "rule of chain", NFTA_RULE_TABLE, NFTA_RULE_CHAIN},
                                     {NFT_MSG_NEWSET, NFT_MSG_DELSET, "set", NFTA_SET_TABLE, NFTA_SET_NAME},
                                     {NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, "element of set", NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET},
                                     {NFT_MSG_NEWOBJ, NFT_MSG_DELOBJ, "counter", NFTA_OBJ_TABLE, NFTA_OBJ_NAME},
                                     {NFT_MSG_NEWFLOWTABLE, NFT_MSG_DELFLOWTABLE, "flowtable", NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME}}};

/// Notifications of elements do not say how wide a key is; our names do.
std::size_t width_of_set(std::string_view name) { return name.contains("_ip6_") || name == "guard_containers" || name == "guard_bridges" ? 16 : 4; }

std::string rule_text(const nlmsghdr& message) {
    const Handle<nftnl_rule, nftnl_rule_free> rule{nftnl_rule_alloc()};
    return nftnl_rule_nlmsg_parse(&message, rule.get()) == 0 ? to_text(read_rule(rule.get())) : "";
}

}  // namespace

struct Monitor::Inbox {
    Handle<mnl_socket, mnl_socket_close> socket;
    std::vector<char> buffer;
    std::size_t length = 0, at = 0;  // what is left of the last datagram
    Change change;
    std::map<std::string, std::vector<std::uint8_t>> added, removed;

    void note(std::string what) {
        if (change.what.size() < most_named) change.what.push_back(std::move(what));
    }

    /// Takes one message in; true when it ends a change.
    bool take(const nlmsghdr& message) {
        const auto type = static_cast<std::uint16_t>(message.nlmsg_type & 0xff);
        if (type == NFT_MSG_NEWGEN) {
            change.generation = generation_of(message);
            return true;
        }
        const auto kind = std::ranges::find_if(kinds, [&](const Kind& k) { return k.added == type || k.removed == type; });
        if (kind == kinds.end()) return false;
        change.port_id = message.nlmsg_pid;
        const auto parts = attributes<16>(message);
        const auto family = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message))->nfgen_family;
        if (family != NFPROTO_INET || string_of(parts[kind->table]) != table_name) {
            change.foreign_rules = true;
            if (kind->added == NFT_MSG_NEWSETELEM) ++change.foreign_elements;
            return false;
        }
        change.ours = true;
        take_ours(message, *kind, type == kind->added, string_of(parts[kind->name]));
        return false;
    }

    void take_ours(const nlmsghdr& message, const Kind& kind, bool added_it, const std::string& name) {
        const bool elements = kind.added == NFT_MSG_NEWSETELEM;
        if (kind.removed == NFT_MSG_DELTABLE && !added_it) {
            change.table_removed = true;
            change.what.clear();  // with it went everything that was named so far
        }
        if (elements) {
            auto& bytes = (added_it ? added : removed)[name];
            const auto before = bytes.size();
            if (before < most_keys) append_keys(message, width_of_set(name), bytes);
            else change.incomplete = true;
        }
        if (kind.removed == NFT_MSG_DELSET && !added_it) change.replaced_sets.push_back(name);
        auto what = fmt::format("{} {} {}", kind.noun, name, added_it ? "added" : "deleted");
        if (kind.added == NFT_MSG_NEWRULE) what += ": " + rule_text(message);
        if (change.what.empty() || change.what.back() != what) note(std::move(what));
    }

    Change finish() {
        const auto pack = [](std::map<std::string, std::vector<std::uint8_t>>& from) {
            std::map<std::string, PackedKeys> result;
            for (auto& [name, bytes] : from) result.emplace(name, PackedKeys(width_of_set(name), std::move(bytes)));
            from.clear();
            return result;
        };
        change.added_elements = pack(added);
        change.removed_elements = pack(removed);
        return std::exchange(change, {});
    }
};

Monitor::Monitor(std::unique_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}
Monitor::Monitor(Monitor&&) noexcept = default;
Monitor& Monitor::operator=(Monitor&&) noexcept = default;
Monitor::~Monitor() = default;

int Monitor::fd() const { return mnl_socket_get_fd(inbox_->socket.get()); }

Result<Monitor> Monitor::open() {
    auto inbox = std::make_unique<Inbox>();
    inbox->socket.reset(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!inbox->socket || mnl_socket_bind(inbox->socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) return fail_errno("listen to", "nf_tables");
    ::setsockopt(mnl_socket_get_fd(inbox->socket.get()), SOL_SOCKET, SO_RCVBUFFORCE, &receive_room, sizeof receive_room);
    int group = NFNLGRP_NFTABLES;
    if (mnl_socket_setsockopt(inbox->socket.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) return fail_errno("listen to", "nf_tables");
    inbox->buffer.resize(32 << 10);
    return Monitor(std::move(inbox));
}

Result<std::optional<Change>> Monitor::next() {
    auto& inbox = *inbox_;
    for (;;) {
        while (inbox.at < inbox.length) {
            int left = static_cast<int>(inbox.length - inbox.at);
            const auto* message = reinterpret_cast<const nlmsghdr*>(inbox.buffer.data() + inbox.at);
            if (!mnl_nlmsg_ok(message, left)) break;
            inbox.at += NLMSG_ALIGN(message->nlmsg_len);
            if (inbox.take(*message)) return inbox.finish();
        }
        const auto got = mnl_socket_recvfrom(inbox.socket.get(), inbox.buffer.data(), inbox.buffer.size());
        inbox.at = 0;
        inbox.length = got > 0 ? static_cast<std::size_t>(got) : 0;
        if (got >= 0) continue;
        if (errno == EINTR) continue;
        if (errno == EAGAIN) return std::optional<Change>{};
        inbox.finish();
        if (errno == ENOBUFS || errno == ENOSPC) return fail(Code::stale, "listen to", "nf_tables", "notifications were lost");
        return fail_errno("listen to", "nf_tables");
    }
}

}  // namespace promwarden::firewall
