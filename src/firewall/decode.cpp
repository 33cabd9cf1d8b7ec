// libnftnl rules back into expressions.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <fmt/ranges.h>
#include <linux/netfilter.h>

#include "batch.hpp"

namespace promwarden::firewall {

namespace {

std::uint32_t number(const nftnl_expr* e, std::uint16_t attribute) { return nftnl_expr_get_u32(e, attribute); }
bool has(const nftnl_expr* e, std::uint16_t attribute) { return nftnl_expr_is_set(e, attribute); }

std::vector<std::uint8_t> data(const nftnl_expr* e, std::uint16_t attribute) {
    std::uint32_t length = 0;
    const auto* first = static_cast<const std::uint8_t*>(nftnl_expr_get(e, attribute, &length));
    return first == nullptr ? std::vector<std::uint8_t>{} : std::vector<std::uint8_t>(first, first + length);
}

std::string text(const nftnl_expr* e, std::uint16_t attribute) {
    const char* value = has(e, attribute) ? nftnl_expr_get_str(e, attribute) : nullptr;
    return value == nullptr ? "" : value;
}

template <std::size_t N>
std::optional<std::size_t> position(const std::array<std::uint32_t, N>& values, std::uint32_t value) {
    const auto found = std::ranges::find(values, value);
    return found == values.end() ? std::nullopt : std::optional<std::size_t>(found - values.begin());
}

using Read = std::optional<Expression>;  // nullopt: of this kind, but not as we write it

Read read_meta(const nftnl_expr* e) {
    constexpr std::array<std::uint32_t, 7> keys{NFT_META_NFPROTO, NFT_META_L4PROTO, NFT_META_IIF, NFT_META_IIFNAME, NFT_META_OIF, NFT_META_OIFNAME, NFT_META_SKUID};
    const auto key = position(keys, number(e, NFTNL_EXPR_META_KEY));
    if (!key || has(e, NFTNL_EXPR_META_SREG) || number(e, NFTNL_EXPR_META_DREG) != NFT_REG_1) return {};
    return expr::Meta{static_cast<expr::Meta::Key>(*key)};
}

Read read_payload(const nftnl_expr* e) {
    if (has(e, NFTNL_EXPR_PAYLOAD_SREG)) return {};
    const auto base = number(e, NFTNL_EXPR_PAYLOAD_BASE);
    if (number(e, NFTNL_EXPR_PAYLOAD_DREG) != NFT_REG_1 || (base != NFT_PAYLOAD_NETWORK_HEADER && base != NFT_PAYLOAD_TRANSPORT_HEADER)) return {};
    return expr::Payload{base == NFT_PAYLOAD_NETWORK_HEADER ? expr::Payload::Base::network : expr::Payload::Base::transport,
                         number(e, NFTNL_EXPR_PAYLOAD_OFFSET), number(e, NFTNL_EXPR_PAYLOAD_LEN)};
}

Read read_fib(const nftnl_expr* e) {
    if (number(e, NFTNL_EXPR_FIB_DREG) != NFT_REG_1 || number(e, NFTNL_EXPR_FIB_RESULT) != NFT_FIB_RESULT_ADDRTYPE ||
        number(e, NFTNL_EXPR_FIB_FLAGS) != NFTA_FIB_F_DADDR)
        return {};
    return expr::FibDestinationType{};
}

Read read_ct(const nftnl_expr* e) {
    if (has(e, NFTNL_EXPR_CT_SREG) || has(e, NFTNL_EXPR_CT_DIR) || number(e, NFTNL_EXPR_CT_KEY) != NFT_CT_STATUS || number(e, NFTNL_EXPR_CT_DREG) != NFT_REG_1) return {};
    return expr::CtStatus{};
}

Read read_socket(const nftnl_expr* e) {
    if (number(e, NFTNL_EXPR_SOCKET_KEY) != NFT_SOCKET_TRANSPARENT || number(e, NFTNL_EXPR_SOCKET_DREG) != NFT_REG_1) return {};
    return expr::SocketTransparent{};
}

Read read_mask(const nftnl_expr* e) {
    const bool plain = !has(e, NFTNL_EXPR_BITWISE_OP) || number(e, NFTNL_EXPR_BITWISE_OP) == NFT_BITWISE_BOOL;
    const auto flipped = data(e, NFTNL_EXPR_BITWISE_XOR);
    if (!plain || std::ranges::any_of(flipped, [](std::uint8_t byte) { return byte != 0; }) || number(e, NFTNL_EXPR_BITWISE_SREG) != NFT_REG_1 ||
        number(e, NFTNL_EXPR_BITWISE_DREG) != NFT_REG_1)
        return {};
    return expr::Mask{data(e, NFTNL_EXPR_BITWISE_MASK)};
}

Read read_compare(const nftnl_expr* e) {
    const auto op = number(e, NFTNL_EXPR_CMP_OP);
    if (number(e, NFTNL_EXPR_CMP_SREG) != NFT_REG_1 || op > NFT_CMP_GTE) return {};
    return expr::Compare{static_cast<expr::Compare::Op>(op), data(e, NFTNL_EXPR_CMP_DATA)};
}

Read read_lookup(const nftnl_expr* e) {
    if (has(e, NFTNL_EXPR_LOOKUP_DREG) || number(e, NFTNL_EXPR_LOOKUP_SREG) != NFT_REG_1) return {};
    return expr::Lookup{text(e, NFTNL_EXPR_LOOKUP_SET), has(e, NFTNL_EXPR_LOOKUP_FLAGS) && (number(e, NFTNL_EXPR_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0};
}

Read read_count(const nftnl_expr* e) {
    if (!has(e, NFTNL_EXPR_OBJREF_IMM_NAME) || number(e, NFTNL_EXPR_OBJREF_IMM_TYPE) != NFT_OBJECT_COUNTER) return {};
    return expr::Count{text(e, NFTNL_EXPR_OBJREF_IMM_NAME)};
}

Read read_limit(const nftnl_expr* e) {
    if (number(e, NFTNL_EXPR_LIMIT_TYPE) != NFT_LIMIT_PKTS || (has(e, NFTNL_EXPR_LIMIT_FLAGS) && number(e, NFTNL_EXPR_LIMIT_FLAGS) != 0)) return {};
    return expr::Limit{nftnl_expr_get_u64(e, NFTNL_EXPR_LIMIT_RATE), std::chrono::seconds(nftnl_expr_get_u64(e, NFTNL_EXPR_LIMIT_UNIT)),
                       number(e, NFTNL_EXPR_LIMIT_BURST)};
}

Read read_log(const nftnl_expr* e) {
    return expr::Log{text(e, NFTNL_EXPR_LOG_PREFIX), has(e, NFTNL_EXPR_LOG_GROUP) ? nftnl_expr_get_u16(e, NFTNL_EXPR_LOG_GROUP) : std::uint16_t{0}};
}

Read read_reject(const nftnl_expr* e) {
    const auto type = number(e, NFTNL_EXPR_REJECT_TYPE);
    if (type == NFT_REJECT_TCP_RST) return expr::Reject{true};
    if (type != NFT_REJECT_ICMPX_UNREACH || nftnl_expr_get_u8(e, NFTNL_EXPR_REJECT_CODE) != NFT_REJECT_ICMPX_PORT_UNREACH) return {};
    return expr::Reject{false};
}

Read read_verdict(const nftnl_expr* e) {
    constexpr std::array<std::int32_t, 5> codes{NF_ACCEPT, NF_DROP, NFT_JUMP, NFT_GOTO, NFT_RETURN};
    if (number(e, NFTNL_EXPR_IMM_DREG) != NFT_REG_VERDICT) return {};
    const auto found = std::ranges::find(codes, static_cast<std::int32_t>(number(e, NFTNL_EXPR_IMM_VERDICT)));
    if (found == codes.end()) return {};
    return expr::Verdict{static_cast<expr::Verdict::Kind>(found - codes.begin()), text(e, NFTNL_EXPR_IMM_CHAIN)};
}

struct Reader {
    std::string_view name;
    Read (*read)(const nftnl_expr*);
};
constexpr std::array<Reader, 13> readers{{{"meta", read_meta},
                                          {"payload", read_payload},
                                          {"fib", read_fib},
                                          {"ct", read_ct},
                                          {"socket", read_socket},
                                          {"bitwise", read_mask},
                                          {"cmp", read_compare},
                                          {"lookup", read_lookup},
                                          {"objref", read_count},
                                          {"limit", read_limit},
                                          {"log", read_log},
                                          {"reject", read_reject},
                                          {"immediate", read_verdict}}};

/// What earlier expressions of the rule put into each register: where a redirection leads, if that is a constant.
using Loaded = std::map<std::uint32_t, std::vector<std::uint8_t>>;

std::string port_in(const Loaded& loaded, const nftnl_expr* e, std::uint16_t attribute) {
    if (!has(e, attribute)) return {};
    const auto found = loaded.find(number(e, attribute));
    return found == loaded.end() || found->second.size() < 2 ? "" : fmt::format(":{}", found->second[0] << 8 | found->second[1]);
}

std::string address_in(const Loaded& loaded, const nftnl_expr* e, std::uint16_t attribute) {
    if (!has(e, attribute)) return {};
    const auto found = loaded.find(number(e, attribute));
    if (found == loaded.end() || (found->second.size() != 4 && found->second.size() != 16)) return {};
    Address address{found->second.size() == 4 ? Family::ip4 : Family::ip6, {}};
    std::ranges::copy(found->second, address.bytes.begin());
    return address.family == Family::ip4 ? to_text(address) : "[" + to_text(address) + "]";
}

std::string leading_to(std::string name, const std::string& address, const std::string& port) {
    if (!address.empty() || !port.empty()) name += " to " + address + port;
    return name;
}

std::string written_field(const nftnl_expr* e) {
    struct Field {
        std::uint32_t base, offset;
        std::string_view name;
    };
    constexpr std::array<Field, 6> fields{{{NFT_PAYLOAD_NETWORK_HEADER, 12, "ip saddr"},
                                           {NFT_PAYLOAD_NETWORK_HEADER, 16, "ip daddr"},
                                           {NFT_PAYLOAD_NETWORK_HEADER, 8, "ip6 saddr"},
                                           {NFT_PAYLOAD_NETWORK_HEADER, 24, "ip6 daddr"},
                                           {NFT_PAYLOAD_TRANSPORT_HEADER, 0, "th sport"},
                                           {NFT_PAYLOAD_TRANSPORT_HEADER, 2, "th dport"}}};
    const auto base = number(e, NFTNL_EXPR_PAYLOAD_BASE), offset = number(e, NFTNL_EXPR_PAYLOAD_OFFSET), length = number(e, NFTNL_EXPR_PAYLOAD_LEN);
    for (const auto& field : fields)
        if (field.base == base && field.offset == offset && (base == NFT_PAYLOAD_TRANSPORT_HEADER ? length == 2 : length == (field.name.starts_with("ip6") ? 16U : 4U)))
            return fmt::format("payload write {}", field.name);
    return "payload write";
}

/// Where an xtables DNAT target leads: struct nf_nat_range2 (revision 2), whose first fields are those of revision 1.
std::string xt_dnat(const nftnl_expr* e) {
    struct Range {
        std::uint32_t flags;
        std::array<std::uint8_t, 16> first, last;
        std::array<std::uint8_t, 2> port;
    };
    constexpr std::uint32_t has_address = 1, has_port = 2;  // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
    std::uint32_t length = 0;
    const void* info = nftnl_expr_get(e, NFTNL_EXPR_TG_INFO, &length);
    if (info == nullptr || number(e, NFTNL_EXPR_TG_REV) == 0 || length < sizeof(Range)) return "xt DNAT";
    Range range{};
    std::memcpy(&range, info, sizeof range);
    const bool ip6 = std::ranges::any_of(std::span(range.first).subspan(4), [](std::uint8_t byte) { return byte != 0; });
    const auto address = to_text(Address{ip6 ? Family::ip6 : Family::ip4, range.first});
    return leading_to("xt DNAT", (range.flags & has_address) == 0 ? "" : ip6 ? "[" + address + "]" : address,
                      (range.flags & has_port) == 0 ? "" : fmt::format(":{}", range.port[0] << 8 | range.port[1]));
}

std::string foreign_name(const nftnl_expr* e, const std::string& name, const Loaded& loaded) {
    if (name == "redir") return leading_to(name, "", port_in(loaded, e, NFTNL_EXPR_REDIR_REG_PROTO_MIN));
    if (name == "tproxy") return leading_to(name, address_in(loaded, e, NFTNL_EXPR_TPROXY_REG_ADDR), port_in(loaded, e, NFTNL_EXPR_TPROXY_REG_PORT));
    if (name == "nat" && number(e, NFTNL_EXPR_NAT_TYPE) != NFT_NAT_DNAT) return "nat snat";
    if (name == "nat") return leading_to("nat dnat", address_in(loaded, e, NFTNL_EXPR_NAT_REG_ADDR_MIN), port_in(loaded, e, NFTNL_EXPR_NAT_REG_PROTO_MIN));
    if (name == "target" && text(e, NFTNL_EXPR_TG_NAME) == "DNAT") return xt_dnat(e);
    if (name == "match" || name == "target") return "xt " + text(e, name == "match" ? std::uint16_t{NFTNL_EXPR_MT_NAME} : std::uint16_t{NFTNL_EXPR_TG_NAME});
    if (name == "payload" && has(e, NFTNL_EXPR_PAYLOAD_SREG)) return written_field(e);
    if (name == "meta" && has(e, NFTNL_EXPR_META_SREG)) return "meta set";
    return name;
}

Expression read_expression(const nftnl_expr* e, Loaded& loaded) {
    const std::string name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
    if (name == "immediate" && has(e, NFTNL_EXPR_IMM_DATA)) {
        loaded[number(e, NFTNL_EXPR_IMM_DREG)] = data(e, NFTNL_EXPR_IMM_DATA);
        return expr::Foreign{fmt::format("load 0x{:02x}", fmt::join(data(e, NFTNL_EXPR_IMM_DATA), ""))};
    }
    const auto reader = std::ranges::find(readers, std::string_view(name), &Reader::name);
    if (reader != readers.end())
        if (auto read = reader->read(e)) return *std::move(read);
    return expr::Foreign{foreign_name(e, name, loaded)};
}

int keep_comment(const nftnl_udata* attribute, void* result) {
    if (nftnl_udata_type(attribute) == NFTNL_UDATA_RULE_COMMENT) {
        const auto* value = static_cast<const char*>(nftnl_udata_get(attribute));
        static_cast<std::string*>(result)->assign(value, ::strnlen(value, nftnl_udata_len(attribute)));
    }
    return 0;
}

}  // namespace

Rule read_rule(const nftnl_rule* rule) {
    Rule result;
    if (nftnl_rule_is_set(rule, NFTNL_RULE_USERDATA)) {
        std::uint32_t length = 0;
        const void* bytes = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &length);
        nftnl_udata_parse(bytes, length, keep_comment, &result.comment);
    }
    const Handle<nftnl_expr_iter, nftnl_expr_iter_destroy> each{nftnl_expr_iter_create(rule)};
    Loaded loaded;
    while (const nftnl_expr* e = nftnl_expr_iter_next(each.get())) result.expressions.push_back(read_expression(e, loaded));
    return result;
}

}  // namespace promwarden::firewall
