// Ruleset objects as netlink messages: one growing buffer, sent whole.
#pragma once

#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>

#include "promwarden/firewall.hpp"

struct nftnl_rule;

namespace promwarden::firewall {

// Newer than the headers of Debian 12's kernel.
inline constexpr std::uint32_t table_flag_persist = 0x4;
inline constexpr std::uint32_t owned_flags = NFT_TABLE_F_OWNER | table_flag_persist;
inline constexpr std::uint16_t set_count_attribute = 20;  // NFTA_SET_COUNT

/// A batch of nf_tables messages. Each message has a label for the error that may name it.
class Batch {
public:
    /// `generation`: the one this batch assumes; nullopt for one that fits any.
    explicit Batch(std::optional<std::uint32_t> generation);

    /// `exclusive`: EEXIST where there is one already.
    void add_table(std::uint32_t flags, const std::string& name = std::string(table_name), bool exclusive = false);
    void delete_table();
    void add_counter(const CounterValue& counter);
    void delete_counter(const std::string& name);
    void add_set(const Set& set);
    void delete_set(const Set& set);
    void add_elements(const Set& set, const PackedKeys& keys) { elements(NFT_MSG_NEWSETELEM, set, keys); }
    void delete_elements(const Set& set, const PackedKeys& keys) { elements(NFT_MSG_DELSETELEM, set, keys); }
    void add_chain(const Chain& chain);
    void delete_chain(const std::string& name);
    /// After the rule with this handle, or first in its chain (0), or last (nullopt).
    void add_rule(const std::string& chain, const Rule& rule, std::optional<std::uint64_t> after);
    void delete_rule(const std::string& chain, std::uint64_t handle);

    /// Asks for one acknowledgement, on the last message, and ends the batch. Without an end the kernel checks it and drops it.
    void finish(bool commit);

    [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }
    [[nodiscard]] std::vector<std::uint8_t> take() { return std::move(bytes_); }
    [[nodiscard]] bool empty() const { return labels_.size() <= 1; }
    [[nodiscard]] std::uint32_t last_sequence() const { return static_cast<std::uint32_t>(labels_.size()) - 1; }
    /// Whether nothing but set elements is in it: no handle changes.
    [[nodiscard]] bool only_elements() const { return only_elements_; }
    /// What the message with this sequence number was to do.
    [[nodiscard]] std::string label(std::uint32_t sequence) const;

private:
    nlmsghdr* begin(std::uint16_t type, std::uint16_t flags, std::string label);
    void end(const nlmsghdr* message);
    void elements(std::uint16_t type, const Set& set, const PackedKeys& keys);

    std::vector<std::uint8_t> bytes_;
    std::unique_ptr<std::uint8_t[]> scratch_;  // one message
    std::vector<std::string> labels_;  // by sequence number
    bool only_elements_ = true;
    std::size_t last_ = 0;             // where the last message begins
};

/// Expressions out of a libnftnl rule; what is not exactly one of ours becomes expr::Foreign.
Rule read_rule(const nftnl_rule* rule);

}  // namespace promwarden::firewall
