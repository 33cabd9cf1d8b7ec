#include "batch.hpp"

#include <algorithm>
#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>

namespace promwarden::firewall {

namespace {

constexpr std::size_t scratch_size = 96 << 10;
// An attribute's length is 16 bits and wraps silently; elements are split well below it.
constexpr std::size_t largest_nest = 60'000;
constexpr std::array<std::uint32_t, 4> key_types{7, 8, 41, 24};  // nft's numbers for ipv4_addr, ipv6_addr, ifname, uid: for display only
constexpr std::array<std::uint32_t, 5> hooks{NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING};

const std::string& table() {
    static const std::string name(table_name);
    return name;
}

nftnl_expr* make(const char* name) { return nftnl_expr_alloc(name); }

/// One libnftnl expression for each of ours.
struct Writer {
    nftnl_expr* operator()(const expr::Meta& meta) const {
        constexpr std::array<std::uint32_t, 7> keys{NFT_META_NFPROTO, NFT_META_L4PROTO, NFT_META_IIF, NFT_META_IIFNAME, NFT_META_OIF, NFT_META_OIFNAME, NFT_META_SKUID};
        auto* e = make("meta");
        nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, keys[static_cast<std::size_t>(meta.key)]);
        nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
        return e;
    }
    nftnl_expr* operator()(const expr::Payload& payload) const {
        auto* e = make("payload");
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, payload.base == expr::Payload::Base::network ? NFT_PAYLOAD_NETWORK_HEADER : NFT_PAYLOAD_TRANSPORT_HEADER);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, payload.offset);
        nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, payload.length);
        return e;
    }
    nftnl_expr* operator()(const expr::FibDestinationType&) const {
        auto* e = make("fib");
        nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
        return e;
    }
    nftnl_expr* operator()(const expr::CtStatus&) const {
        auto* e = make("ct");
        nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATUS);
        nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
        return e;
    }
    nftnl_expr* operator()(const expr::SocketTransparent&) const {
        auto* e = make("socket");
        nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_TRANSPARENT);
        nftnl_expr_set_u32(e, NFTNL_EXPR_SOCKET_DREG, NFT_REG_1);
        return e;
    }
    nftnl_expr* operator()(const expr::Mask& mask) const {
        auto* e = make("bitwise");
        const auto length = static_cast<std::uint32_t>(mask.mask.size());
        const std::array<std::uint8_t, 16> zero{};
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
        nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, length);
        nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask.mask.data(), length);
        nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero.data(), length);
        return e;
    }
    nftnl_expr* operator()(const expr::Compare& compare) const {
        auto* e = make("cmp");
        nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
        nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, static_cast<std::uint32_t>(compare.op));  // the same order as NFT_CMP_*
        nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, compare.value.data(), static_cast<std::uint32_t>(compare.value.size()));
        return e;
    }
    nftnl_expr* operator()(const expr::Lookup& lookup) const {
        auto* e = make("lookup");
        nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
        nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, lookup.set.c_str());
        if (lookup.inverted) nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        return e;
    }
    nftnl_expr* operator()(const expr::Count& count) const {
        auto* e = make("objref");
        nftnl_expr_set_u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
        nftnl_expr_set_str(e, NFTNL_EXPR_OBJREF_IMM_NAME, count.counter.c_str());
        return e;
    }
    nftnl_expr* operator()(const expr::Limit& limit) const {
        auto* e = make("limit");
        nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, limit.rate);
        nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, static_cast<std::uint64_t>(limit.unit.count()));
        nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, limit.burst);
        nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
        return e;
    }
    nftnl_expr* operator()(const expr::Log& log) const {
        auto* e = make("log");
        nftnl_expr_set_str(e, NFTNL_EXPR_LOG_PREFIX, log.prefix.c_str());
        if (log.group != 0) nftnl_expr_set_u16(e, NFTNL_EXPR_LOG_GROUP, log.group);
        return e;
    }
    nftnl_expr* operator()(const expr::Reject& reject) const {
        auto* e = make("reject");
        nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, reject.tcp_reset ? NFT_REJECT_TCP_RST : NFT_REJECT_ICMPX_UNREACH);
        nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, reject.tcp_reset ? 0 : NFT_REJECT_ICMPX_PORT_UNREACH);
        return e;
    }
    nftnl_expr* operator()(const expr::Verdict& verdict) const {
        constexpr std::array<std::int32_t, 5> codes{NF_ACCEPT, NF_DROP, NFT_JUMP, NFT_GOTO, NFT_RETURN};
        auto* e = make("immediate");
        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
        nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(codes[static_cast<std::size_t>(verdict.kind)]));
        if (!verdict.chain.empty()) nftnl_expr_set_str(e, NFTNL_EXPR_IMM_CHAIN, verdict.chain.c_str());
        return e;
    }
    nftnl_expr* operator()(const expr::Foreign& foreign) const { return make(foreign.name.c_str()); }  // never in a ruleset of ours
};

void put_comment(nftnl_rule* rule, const std::string& comment) {
    if (comment.empty()) return;
    const Handle<nftnl_udata_buf, nftnl_udata_buf_free> data{nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN)};
    nftnl_udata_put_strz(data.get(), NFTNL_UDATA_RULE_COMMENT, comment.c_str());
    nftnl_rule_set_data(rule, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(data.get()), nftnl_udata_buf_len(data.get()));
}

}  // namespace

Batch::Batch(std::optional<std::uint32_t> generation) : scratch_(std::make_unique_for_overwrite<std::uint8_t[]>(scratch_size)) {
    labels_.emplace_back("begin");
    auto* message = mnl_nlmsg_put_header(scratch_.get());
    message->nlmsg_type = NFNL_MSG_BATCH_BEGIN;
    message->nlmsg_flags = NLM_F_REQUEST;
    auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
    *header = {AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)};
    if (generation) mnl_attr_put_u32(message, NFNL_BATCH_GENID, htonl(*generation));
    end(message);
}

nlmsghdr* Batch::begin(std::uint16_t type, std::uint16_t flags, std::string label) {
    const auto sequence = static_cast<std::uint32_t>(labels_.size());
    labels_.push_back(std::move(label));
    only_elements_ &= type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM;
    return nftnl_nlmsg_build_hdr(reinterpret_cast<char*>(scratch_.get()), type, NFPROTO_INET, flags, sequence);
}

void Batch::end(const nlmsghdr* message) {
    last_ = bytes_.size();
    const auto* first = reinterpret_cast<const std::uint8_t*>(message);
    bytes_.insert(bytes_.end(), first, first + NLMSG_ALIGN(message->nlmsg_len));
}

void Batch::add_table(std::uint32_t flags, const std::string& name, bool exclusive) {
    auto* message = begin(NFT_MSG_NEWTABLE, static_cast<std::uint16_t>(NLM_F_CREATE | (exclusive ? NLM_F_EXCL : 0)), "add the table");
    const Handle<nftnl_table, nftnl_table_free> object{nftnl_table_alloc()};
    nftnl_table_set_str(object.get(), NFTNL_TABLE_NAME, name.c_str());
    nftnl_table_set_u32(object.get(), NFTNL_TABLE_FLAGS, flags);
    nftnl_table_nlmsg_build_payload(message, object.get());
    end(message);
}

void Batch::delete_table() {
    auto* message = begin(NFT_MSG_DELTABLE, 0, "delete the table");
    mnl_attr_put_strz(message, NFTA_TABLE_NAME, table().c_str());
    end(message);
}

void Batch::add_counter(const CounterValue& counter) {
    auto* message = begin(NFT_MSG_NEWOBJ, NLM_F_CREATE, "add counter " + counter.name);
    mnl_attr_put_strz(message, NFTA_OBJ_TABLE, table().c_str());
    mnl_attr_put_strz(message, NFTA_OBJ_NAME, counter.name.c_str());
    mnl_attr_put_u32(message, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
    auto* data = mnl_attr_nest_start(message, NFTA_OBJ_DATA);
    mnl_attr_put_u64(message, NFTA_COUNTER_BYTES, htobe64(counter.bytes));
    mnl_attr_put_u64(message, NFTA_COUNTER_PACKETS, htobe64(counter.packets));
    mnl_attr_nest_end(message, data);
    end(message);
}

void Batch::delete_counter(const std::string& name) {
    auto* message = begin(NFT_MSG_DELOBJ, 0, "delete counter " + name);
    mnl_attr_put_strz(message, NFTA_OBJ_TABLE, table().c_str());
    mnl_attr_put_strz(message, NFTA_OBJ_NAME, name.c_str());
    mnl_attr_put_u32(message, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
    end(message);
}

void Batch::add_set(const Set& set) {
    auto* message = begin(NFT_MSG_NEWSET, NLM_F_CREATE, "add set " + set.name);
    const Handle<nftnl_set, nftnl_set_free> object{nftnl_set_alloc()};
    nftnl_set_set_str(object.get(), NFTNL_SET_TABLE, table().c_str());
    nftnl_set_set_str(object.get(), NFTNL_SET_NAME, set.name.c_str());
    nftnl_set_set_u32(object.get(), NFTNL_SET_FLAGS, set.flags);
    nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_TYPE, key_types[static_cast<std::size_t>(set.type)]);
    nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_LEN, static_cast<std::uint32_t>(key_width(set.type)));
    nftnl_set_set_u32(object.get(), NFTNL_SET_DESC_SIZE, set.size);  // declared: the kernel takes its fastest hash
    nftnl_set_set_u32(object.get(), NFTNL_SET_ID, last_sequence());
    // Tells nft to print the bytes of names and user ids in the host's order.
    const bool host_order = set.type == Set::Type::interface || set.type == Set::Type::user;
    const Handle<nftnl_udata_buf, nftnl_udata_buf_free> data{nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN)};
    nftnl_udata_put_u32(data.get(), NFTNL_UDATA_SET_KEYBYTEORDER, host_order ? 1 : 2);
    nftnl_set_set_data(object.get(), NFTNL_SET_USERDATA, nftnl_udata_buf_data(data.get()), nftnl_udata_buf_len(data.get()));
    nftnl_set_nlmsg_build_payload(message, object.get());
    end(message);
    if (set.elements != nullptr) add_elements(set, *set.elements);
}

void Batch::delete_set(const Set& set) {
    auto* message = begin(NFT_MSG_DELSET, 0, "delete set " + set.name);
    mnl_attr_put_strz(message, NFTA_SET_TABLE, table().c_str());
    mnl_attr_put_strz(message, NFTA_SET_NAME, set.name.c_str());
    end(message);
}

void Batch::elements(std::uint16_t type, const Set& set, const PackedKeys& keys) {
    // Encoded by hand: libnftnl's objects cost ten times the kernel's own work.
    const auto width = static_cast<std::uint16_t>(keys.width());
    const std::size_t each = 3 * NLA_HDRLEN + width;
    const std::size_t most = largest_nest / each;
    for (std::size_t first = 0; first < keys.size(); first += most) {
        auto* message = begin(type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0, (type == NFT_MSG_NEWSETELEM ? "add elements to set " : "delete elements of set ") + set.name);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table().c_str());
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set.name.c_str());
        auto* nest = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
        auto* out = static_cast<std::uint8_t*>(mnl_nlmsg_get_payload_tail(message));
        const auto until = std::min(keys.size(), first + most);
        for (auto i = first; i < until; ++i) {
            const nlattr headers[3]{{static_cast<std::uint16_t>(each), NLA_F_NESTED | NFTA_LIST_ELEM},
                                    {static_cast<std::uint16_t>(2 * NLA_HDRLEN + width), NLA_F_NESTED | NFTA_SET_ELEM_KEY},
                                    {static_cast<std::uint16_t>(NLA_HDRLEN + width), NFTA_DATA_VALUE}};
            std::memcpy(out, headers, sizeof headers);
            std::memcpy(out + sizeof headers, keys[i].data(), width);
            out += each;
        }
        message->nlmsg_len += static_cast<std::uint32_t>((until - first) * each);
        mnl_attr_nest_end(message, nest);
        end(message);
    }
}

void Batch::add_chain(const Chain& chain) {
    auto* message = begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "add chain " + chain.name);
    const Handle<nftnl_chain, nftnl_chain_free> object{nftnl_chain_alloc()};
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TABLE, table().c_str());
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_NAME, chain.name.c_str());
    if (chain.hook) {
        nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TYPE, "filter");
        nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_HOOKNUM, hooks[static_cast<std::size_t>(chain.hook->point)]);
        nftnl_chain_set_s32(object.get(), NFTNL_CHAIN_PRIO, chain.hook->priority);
        nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_POLICY, chain.hook->accept_by_default ? NF_ACCEPT : NF_DROP);
    }
    nftnl_chain_nlmsg_build_payload(message, object.get());
    end(message);
}

void Batch::delete_chain(const std::string& name) {
    auto* message = begin(NFT_MSG_DELCHAIN, 0, "delete chain " + name);
    mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, table().c_str());
    mnl_attr_put_strz(message, NFTA_CHAIN_NAME, name.c_str());
    end(message);
}

void Batch::add_rule(const std::string& chain, const Rule& rule, std::optional<std::uint64_t> after) {
    // With a position, APPEND means after it; without one, last in the chain. Without APPEND: first in the chain.
    const bool first = after && *after == 0;
    auto* message = begin(NFT_MSG_NEWRULE, static_cast<std::uint16_t>(NLM_F_CREATE | (first ? 0 : NLM_F_APPEND)), fmt::format("add rule to {}: {}", chain, to_text(rule)));
    const Handle<nftnl_rule, nftnl_rule_free> object{nftnl_rule_alloc()};
    nftnl_rule_set_str(object.get(), NFTNL_RULE_TABLE, table().c_str());
    nftnl_rule_set_str(object.get(), NFTNL_RULE_CHAIN, chain.c_str());
    if (after && !first) nftnl_rule_set_u64(object.get(), NFTNL_RULE_POSITION, *after);
    put_comment(object.get(), rule.comment);
    for (const auto& expression : rule.expressions) nftnl_rule_add_expr(object.get(), std::visit(Writer{}, expression));  // the rule owns it now
    nftnl_rule_nlmsg_build_payload(message, object.get());
    end(message);
}

void Batch::delete_rule(const std::string& chain, std::uint64_t handle) {
    auto* message = begin(NFT_MSG_DELRULE, 0, "delete a rule of " + chain);
    mnl_attr_put_strz(message, NFTA_RULE_TABLE, table().c_str());
    mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.c_str());
    mnl_attr_put_u64(message, NFTA_RULE_HANDLE, htobe64(handle));
    end(message);
}

void Batch::finish(bool commit) {
    if (!empty()) reinterpret_cast<nlmsghdr*>(bytes_.data() + last_)->nlmsg_flags |= NLM_F_ACK;
    if (!commit) return;
    auto* message = mnl_nlmsg_put_header(scratch_.get());
    message->nlmsg_type = NFNL_MSG_BATCH_END;
    message->nlmsg_flags = NLM_F_REQUEST;
    message->nlmsg_seq = static_cast<std::uint32_t>(labels_.size());
    auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
    *header = {AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)};
    end(message);
}

std::string Batch::label(std::uint32_t sequence) const { return sequence < labels_.size() ? labels_[sequence] : "end"; }

}  // namespace promwarden::firewall
