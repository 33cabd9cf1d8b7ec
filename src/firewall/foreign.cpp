// Other people's chains, read but never written.

#include <algorithm>

#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>

#include "channel.hpp"

namespace promwarden::firewall {

namespace {

std::string family_name(std::uint32_t family) {
    switch (family) {
        case NFPROTO_INET: return "inet";
        case NFPROTO_IPV4: return "ip";
        case NFPROTO_IPV6: return "ip6";
        case NFPROTO_ARP: return "arp";
        case NFPROTO_BRIDGE: return "bridge";
        case NFPROTO_NETDEV: return "netdev";
        default: return fmt::format("family {}", family);
    }
}

bool ours(std::uint32_t family, const char* table) { return family == NFPROTO_INET && table != nullptr && table == table_name; }

std::vector<std::string> devices_of(const nftnl_chain* chain) {
    std::vector<std::string> names;
    if (nftnl_chain_is_set(chain, NFTNL_CHAIN_DEV)) names.emplace_back(nftnl_chain_get_str(chain, NFTNL_CHAIN_DEV));
    if (nftnl_chain_is_set(chain, NFTNL_CHAIN_DEVICES))
        for (const auto* const* name = nftnl_chain_get_array(chain, NFTNL_CHAIN_DEVICES); *name != nullptr; ++name) names.emplace_back(*name);
    return names;
}

void add_chain(ForeignRules& rules, const nlmsghdr& message) {
    const Handle<nftnl_chain, nftnl_chain_free> chain{nftnl_chain_alloc()};
    if (nftnl_chain_nlmsg_parse(&message, chain.get()) != 0) return;
    const auto family = nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_FAMILY);
    const char* table = nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE);
    if (ours(family, table)) return;
    ForeignChain result{family_name(family), table, nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME), "", {}, 0, false, devices_of(chain.get()), {}};
    if (nftnl_chain_is_set(chain.get(), NFTNL_CHAIN_HOOKNUM)) {
        result.hook = static_cast<int>(nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_HOOKNUM));
        result.priority = nftnl_chain_get_s32(chain.get(), NFTNL_CHAIN_PRIO);
        result.drops_by_default = nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_POLICY) == NF_DROP;
        if (const char* type = nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TYPE); type != nullptr) result.type = type;
    }
    rules.chains.push_back(std::move(result));
}

void add_rule(ForeignRules& rules, const nlmsghdr& message) {
    const Handle<nftnl_rule, nftnl_rule_free> rule{nftnl_rule_alloc()};
    if (nftnl_rule_nlmsg_parse(&message, rule.get()) != 0) return;
    const auto family = family_name(nftnl_rule_get_u32(rule.get(), NFTNL_RULE_FAMILY));
    const std::string_view table = nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE), chain = nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN);
    const auto found = std::ranges::find_if(rules.chains, [&](const ForeignChain& c) { return c.family == family && c.table == table && c.name == chain; });
    if (found != rules.chains.end()) found->rules.push_back(read_rule(rule.get()));
}

void add_set(ForeignRules& rules, const nlmsghdr& message) {
    const Handle<nftnl_set, nftnl_set_free> set{nftnl_set_alloc()};
    if (nftnl_set_nlmsg_parse(&message, set.get()) != 0) return;
    if (ours(nftnl_set_get_u32(set.get(), NFTNL_SET_FAMILY), nftnl_set_get_str(set.get(), NFTNL_SET_TABLE))) return;
    std::uint64_t size = nftnl_set_is_set(set.get(), NFTNL_SET_DESC_SIZE) ? nftnl_set_get_u32(set.get(), NFTNL_SET_DESC_SIZE) : 0;
    if (const auto* count = attributes<set_count_attribute + 1>(message)[set_count_attribute]; count != nullptr) size = number_of(count);
    rules.largest_set = std::max(rules.largest_set, size);
}

}  // namespace

Result<ForeignRules> read_foreign(const Kernel& kernel) {
    ForeignRules rules;
    auto& channel = kernel.channel();
    TRY(channel.ask(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP, {}, [&](const nlmsghdr& message) { add_chain(rules, message); }));
    if (!rules.chains.empty())
        TRY(channel.ask(NFT_MSG_GETRULE, NFPROTO_UNSPEC, NLM_F_DUMP, {}, [&](const nlmsghdr& message) { add_rule(rules, message); }));
    TRY(channel.ask(NFT_MSG_GETSET, NFPROTO_UNSPEC, NLM_F_DUMP, {}, [&](const nlmsghdr& message) { add_set(rules, message); }));
    TRY(channel.ask(NFT_MSG_GETFLOWTABLE, NFPROTO_UNSPEC, NLM_F_DUMP, {}, [&](const nlmsghdr& message) {
        const auto parts = attributes<NFTA_FLOWTABLE_MAX + 1>(message);
        const auto family = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message))->nfgen_family;
        rules.flowtables.push_back(fmt::format("{} {} {}", family_name(family), string_of(parts[NFTA_FLOWTABLE_TABLE]), string_of(parts[NFTA_FLOWTABLE_NAME])));
    }));
    return rules;
}

}  // namespace promwarden::firewall
