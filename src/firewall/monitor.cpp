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
constexpr std::size_t most_described = 20;
constexpr std::size_t most_announced = 1024;  // objects remembered of one change
constexpr std::size_t most_keys = 65536; // elements remembered of one change; beyond it the set is read again

using What = Announcement::Kind;

struct Kind {
    What what;
    std::uint16_t added, removed;
    std::string_view noun;
    std::uint16_t table, name;  // attributes
};
constexpr std::array<Kind, 7> kinds{{{What::table, NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, "table", NFTA_TABLE_NAME, NFTA_TABLE_NAME},
                                     {What::chain, NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN, "chain", NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME},
                                     {What::rule, NFT_MSG_NEWRULE, NFT_MSG_DELRULE, "rule of chain", NFTA_RULE_TABLE, NFTA_RULE_CHAIN},
                                     {What::set, NFT_MSG_NEWSET, NFT_MSG_DELSET, "set", NFTA_SET_TABLE, NFTA_SET_NAME},
                                     {What::element, NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, "element of set", NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET},
                                     {What::counter, NFT_MSG_NEWOBJ, NFT_MSG_DELOBJ, "counter", NFTA_OBJ_TABLE, NFTA_OBJ_NAME},
                                     {What::flowtable, NFT_MSG_NEWFLOWTABLE, NFT_MSG_DELFLOWTABLE, "flowtable", NFTA_FLOWTABLE_TABLE, NFTA_FLOWTABLE_NAME}}};

/// Notifications of elements do not say how wide a key is; our names do.
std::size_t width_of_set(std::string_view name) { return name.contains("_ip6_") || name == "guard_containers" || name == "guard_bridges" ? 16 : 4; }

/// The rule that a message is about.
Handle<nftnl_rule, nftnl_rule_free> rule_in(const nlmsghdr& message) {
    Handle<nftnl_rule, nftnl_rule_free> rule{nftnl_rule_alloc()};
    if (nftnl_rule_nlmsg_parse(&message, rule.get()) != 0) rule.reset();
    return rule;
}
const nlmsghdr& message_of(const Announcement& announcement) { return *reinterpret_cast<const nlmsghdr*>(announcement.message.data()); }

}  // namespace

struct Monitor::Inbox {
    Handle<mnl_socket, mnl_socket_close> socket;
    std::vector<char> buffer;
    std::size_t length = 0, at = 0;  // what is left of the last datagram
    Change change;
    std::map<std::string, std::vector<std::uint8_t>> added, removed;

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

    void take_ours(const nlmsghdr& message, const Kind& kind, bool added_it, std::string name) {
        if (kind.what == What::table && !added_it) change.table_removed = true;
        if (kind.what == What::element) {
            auto& bytes = (added_it ? added : removed)[name];
            if (bytes.size() < most_keys) append_keys(message, width_of_set(name), bytes);
            else change.incomplete = true;
            if (const auto* last = change.announcements.empty() ? nullptr : &change.announcements.back();
                last != nullptr && last->kind == What::element && last->added == added_it && last->name == name)
                return;
        }
        if (change.announcements.size() == most_announced) {
            change.incomplete = true;
            return;
        }
        std::vector<std::uint8_t> bytes;
        const auto* first = reinterpret_cast<const std::uint8_t*>(&message);
        if (kind.what == What::rule) bytes.assign(first, first + message.nlmsg_len);
        change.announcements.push_back({kind.what, added_it, std::move(name), std::move(bytes)});
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

// ---- what a change says ---------------------------------------------------------------------------------------------

std::vector<std::string> describe(const Change& change) {
    std::span announcements(change.announcements);
    // With a table went everything in it.
    const auto removal = std::ranges::find_if(announcements, [](const Announcement& one) { return one.kind == What::table && !one.added; });
    if (removal != announcements.end()) announcements = announcements.subspan(static_cast<std::size_t>(removal - announcements.begin()));
    std::vector<std::string> texts;
    for (const auto& one : announcements) {
        if (texts.size() == most_described) break;
        auto text = fmt::format("{} {} {}", std::ranges::find(kinds, one.kind, &Kind::what)->noun, one.name, one.added ? "added" : "deleted");
        if (one.kind == What::rule)
            if (const auto rule = rule_in(message_of(one))) text += ": " + to_text(read_rule(rule.get()));
        if (texts.empty() || texts.back() != text) texts.push_back(std::move(text));
    }
    return texts;
}

namespace {

bool follow_rule(Live& live, const Announcement& announcement) {
    const auto chain = std::ranges::find(live.ruleset->chains, announcement.name, &Chain::name);
    const auto rule = rule_in(message_of(announcement));
    if (chain == live.ruleset->chains.end() || !rule) return false;
    auto& handles = live.rule_handles[announcement.name];
    const auto handle = nftnl_rule_get_u64(rule.get(), NFTNL_RULE_HANDLE);
    if (!announcement.added) {
        const auto at = std::ranges::find(handles, handle);
        if (at == handles.end()) return false;
        chain->rules.erase(chain->rules.begin() + (at - handles.begin()));
        handles.erase(at);
        return true;
    }
    // The kernel names the rule before it, except for the first and the last, which its flags tell apart.
    auto at = (message_of(announcement).nlmsg_flags & NLM_F_APPEND) != 0 ? handles.end() : handles.begin();
    if (nftnl_rule_is_set(rule.get(), NFTNL_RULE_POSITION)) {
        at = std::ranges::find(handles, nftnl_rule_get_u64(rule.get(), NFTNL_RULE_POSITION));
        if (at == handles.end()) return false;
        ++at;
    }
    chain->rules.insert(chain->rules.begin() + (at - handles.begin()), read_rule(rule.get()));
    handles.insert(at, handle);
    return true;
}

bool follow_elements(Set& set, const Change& change) {
    const auto added = change.added_elements.find(set.name), removed = change.removed_elements.find(set.name);
    const bool adds = added != change.added_elements.end(), removes = removed != change.removed_elements.end();
    if (!adds && !removes) return true;
    if (set.elements == nullptr) return false;
    const auto none = PackedKeys(key_width(set.type));
    set.elements = std::make_shared<PackedKeys>(set.elements->changed(removes ? removed->second : none, adds ? added->second : none));
    return true;
}

}  // namespace

bool follow(Live& live, const Change& change) {
    if (!live.ruleset || change.incomplete || change.generation.id != live.generation + 1) return false;
    for (const auto& one : change.announcements) {
        if (one.kind != What::rule && one.kind != What::element) return false;
        if (one.kind == What::rule && !follow_rule(live, one)) return false;
    }
    if (!std::ranges::all_of(live.ruleset->sets, [&](Set& set) { return follow_elements(set, change); })) return false;
    live.generation = change.generation.id;
    return true;
}

}  // namespace promwarden::firewall
