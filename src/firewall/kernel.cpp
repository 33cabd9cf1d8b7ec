// The table as the kernel has it, and the transactions that change it.

#include <algorithm>
#include <ranges>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>

#include "channel.hpp"
#include "script.hpp"

namespace promwarden::firewall {

namespace {

constexpr int most_attempts = 10;
constexpr std::size_t dumped_for_verification = 4096;

void name_table(nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, std::string(table_name).c_str()); }  // attribute 1 in every message type

std::optional<Hook> hook_of(const nftnl_chain* chain) {
    if (!nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM)) return std::nullopt;
    return Hook{static_cast<Hook::Point>(nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM)), nftnl_chain_get_s32(chain, NFTNL_CHAIN_PRIO),
                nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_ACCEPT};
}

Set set_of(const nftnl_set* set) {
    Set result;
    result.name = nftnl_set_get_str(set, NFTNL_SET_NAME);
    result.size = nftnl_set_is_set(set, NFTNL_SET_DESC_SIZE) ? nftnl_set_get_u32(set, NFTNL_SET_DESC_SIZE) : 0;
    result.flags = nftnl_set_get_u32(set, NFTNL_SET_FLAGS);
    const auto length = nftnl_set_get_u32(set, NFTNL_SET_KEY_LEN);
    const auto type = nftnl_set_get_u32(set, NFTNL_SET_KEY_TYPE);
    result.type = type == 24 ? Set::Type::user : type == 41 ? Set::Type::interface : length == 16 ? Set::Type::ip6 : Set::Type::ip4;
    if (key_width(result.type) != length) result.flags |= 1U << 31;  // not a set of ours, whatever it calls itself
    return result;
}

CounterValue counter_of(const nlmsghdr& message) {
    const auto top = attributes<NFTA_OBJ_MAX + 1>(message);
    CounterValue value{string_of(top[NFTA_OBJ_NAME]), 0, 0};
    if (top[NFTA_OBJ_DATA] == nullptr) return value;
    const auto data = nested<NFTA_COUNTER_MAX + 1>(top[NFTA_OBJ_DATA]);
    value.packets = long_number_of(data[NFTA_COUNTER_PACKETS]);
    value.bytes = long_number_of(data[NFTA_COUNTER_BYTES]);
    return value;
}

/// Elements of the new set that the old one lacks, both known.
PackedKeys missing(const Set& from, const Set& to) { return to.elements->minus(*from.elements); }

/// Collects the messages of one change.
class Transition {
public:
    Transition(Batch& batch, const Live& from, const Ruleset& to) : batch_(batch), live_(from), from_(*from.ruleset), to_(to) {}

    void write(std::uint32_t table_flags, bool adopt) {
        if (from_.dormant || adopt) batch_.add_table(table_flags);
        for (const auto& name : to_.counters)
            if (!had_counter(name)) batch_.add_counter({name});
        for (const auto& set : to_.sets)
            if (from_.set(set.name) == nullptr) batch_.add_set(set);
        for (const auto& chain : to_.chains)
            if (const auto* old = from_.chain(chain.name); old == nullptr) batch_.add_chain(chain);
        remove_rules();
        rebuild_sets();
        rebuild_chains();
        add_rules();
        change_elements();
        for (const auto& chain : from_.chains)
            if (to_.chain(chain.name) == nullptr) batch_.delete_chain(chain.name);
        for (const auto& set : from_.sets)
            if (to_.set(set.name) == nullptr) batch_.delete_set(set);
        for (const auto& name : from_.counters)
            if (std::ranges::find(to_.counters, name) == to_.counters.end()) batch_.delete_counter(name);
    }

private:
    [[nodiscard]] bool had_counter(const std::string& name) const { return std::ranges::find(from_.counters, name) != from_.counters.end(); }

    /// A set that cannot become the wanted one by elements alone: made anew, with the rules that use it.
    [[nodiscard]] bool rebuilt(const std::string& name) const {
        const auto* old = from_.set(name);
        const auto* set = to_.set(name);
        return old != nullptr && set != nullptr && (old->type != set->type || old->flags != set->flags || old->size < set->elements->size() || old->elements == nullptr);
    }

    [[nodiscard]] bool moved(const Chain& chain) const {
        const auto* old = from_.chain(chain.name);
        return old != nullptr && old->hook != chain.hook;
    }

    [[nodiscard]] bool keeps(const Rule& rule) const {
        return std::ranges::none_of(rule.expressions, [&](const Expression& e) {
            const auto* lookup = std::get_if<expr::Lookup>(&e);
            return lookup != nullptr && rebuilt(lookup->set);
        });
    }

    [[nodiscard]] std::vector<ScriptStep> script_of(const Chain& old, const Chain& chain) const {
        if (moved(chain)) return script(old.rules.size(), chain.rules.size(), [](std::size_t, std::size_t) { return false; });
        return script(old.rules.size(), chain.rules.size(),
                      [&](std::size_t left, std::size_t right) { return old.rules[left] == chain.rules[right] && keeps(old.rules[left]); });
    }

    [[nodiscard]] std::uint64_t handle(const std::string& chain, std::size_t index) const { return live_.rule_handles.at(chain).at(index); }

    void remove_rules() {
        for (const auto& old : from_.chains) {
            const auto* chain = to_.chain(old.name);
            if (chain == nullptr) {
                for (std::size_t i = 0; i < old.rules.size(); ++i) batch_.delete_rule(old.name, handle(old.name, i));
                continue;
            }
            for (const auto step : script_of(old, *chain))
                if (step.kind == ScriptStep::Kind::remove) batch_.delete_rule(old.name, handle(old.name, step.index));
        }
    }

    void rebuild_sets() {
        for (const auto& set : to_.sets)
            if (rebuilt(set.name)) {
                batch_.delete_set(set);
                batch_.add_set(set);
            }
    }

    void rebuild_chains() {
        for (const auto& chain : to_.chains)
            if (moved(chain)) {
                batch_.delete_chain(chain.name);
                batch_.add_chain(chain);
            }
    }

    void add_rules() {
        for (const auto& chain : to_.chains) {
            const auto* old = from_.chain(chain.name);
            if (old == nullptr || moved(chain)) {
                for (const auto& rule : chain.rules) batch_.add_rule(chain.name, rule, std::nullopt);
                continue;
            }
            const auto steps = script_of(*old, chain);
            std::uint64_t after = 0;
            std::vector<std::size_t> pending;
            for (const auto step : steps) {
                if (step.kind == ScriptStep::Kind::add) pending.push_back(step.index);
                if (step.kind != ScriptStep::Kind::keep) continue;
                // Each goes right behind the last rule that stays, so the last one goes first.
                for (const auto index : pending | std::views::reverse) batch_.add_rule(chain.name, chain.rules[index], after);
                pending.clear();
                after = handle(chain.name, step.index);
            }
            for (const auto index : pending) batch_.add_rule(chain.name, chain.rules[index], std::nullopt);
        }
    }

    void change_elements() {
        for (const auto& set : to_.sets) {
            const auto* old = from_.set(set.name);
            if (old == nullptr || rebuilt(set.name) || old->elements == set.elements) continue;
            batch_.delete_elements(set, missing(set, *old));
            batch_.add_elements(set, missing(*old, set));
        }
    }

    Batch& batch_;
    const Live& live_;
    const Ruleset& from_;
    const Ruleset& to_;
};

/// The whole table, in the order in which things are referred to.
void write_all(Batch& batch, const Ruleset& to, std::uint32_t flags, std::span<const CounterValue> values, bool exclusive = false) {
    batch.add_table(flags, std::string(table_name), exclusive);
    for (const auto& name : to.counters) {
        const auto known = std::ranges::find(values, name, &CounterValue::name);
        batch.add_counter(known == values.end() ? CounterValue{name} : *known);
    }
    for (const auto& set : to.sets) batch.add_set(set);
    for (const auto& chain : to.chains) batch.add_chain(chain);
    for (const auto& chain : to.chains)
        for (const auto& rule : chain.rules) batch.add_rule(chain.name, rule, std::nullopt);
}

}  // namespace

Ownership ownership_of(const Live& live) { return (live.table_flags & owned_flags) == owned_flags ? Ownership::owned : Ownership::plain; }

// ---- reading --------------------------------------------------------------------------------------------------------

/// One look at everything, between two looks at the generation.
class TableReader {
public:
    explicit TableReader(Channel& channel) : channel_(channel) {}

    Result<Live> read(Elements elements) {
        const auto before = TRY(generation());
        live_.generation = before.id;
        if (!TRY(table())) return std::move(live_);
        TRY(chains());
        TRY(rules());
        TRY(sets());
        if (elements == Elements::all)
            for (auto& set : live_.ruleset->sets) TRY(read_elements(set));
        TRY(counters());
        for (const auto& counter : live_.counters) live_.ruleset->counters.push_back(counter.name);
        if (TRY(generation()).id != before.id) return fail(Code::stale, "read the ruleset", "", "it changed while it was read");
        return std::move(live_);
    }

    Result<Generation> generation() {
        Generation result;
        TRY(channel_.ask(NFT_MSG_GETGEN, NFPROTO_UNSPEC, 0, {}, [&](const nlmsghdr& message) { result = generation_of(message); }));
        return result;
    }

    Result<std::vector<CounterValue>> values() {
        TRY(counters());
        return std::move(live_.counters);
    }

    /// Number of elements by set, for the sets that the kernel counts.
    Result<std::map<std::string, std::uint32_t>> counts() {
        live_.ruleset.emplace();
        TRY(sets());
        return std::move(live_.element_counts);
    }

    Result<> read_elements(Set& set) {
        std::vector<std::uint8_t> bytes;
        const auto width = key_width(set.type);
        TRY(channel_.ask(NFT_MSG_GETSETELEM, NFPROTO_INET, NLM_F_DUMP,
                         [&](nlmsghdr* message) {
                             name_table(message);
                             mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set.name.c_str());
                         },
                         [&](const nlmsghdr& message) { append_keys(message, width, bytes); }));
        set.elements = std::make_shared<PackedKeys>(width, std::move(bytes));
        return {};
    }

private:
    Result<bool> table() {
        const auto found = channel_.ask(NFT_MSG_GETTABLE, NFPROTO_INET, 0, name_table, [&](const nlmsghdr& message) {
            const auto parts = attributes<NFTA_TABLE_MAX + 1>(message);
            live_.table_flags = number_of(parts[NFTA_TABLE_FLAGS]);
            live_.owner = number_of(parts[NFTA_TABLE_OWNER]);
        });
        if (!found && found.error().number == ENOENT) return false;
        if (!found) return std::unexpected(found.error());
        live_.ruleset.emplace();
        live_.ruleset->dormant = (live_.table_flags & NFT_TABLE_F_DORMANT) != 0;
        return true;
    }

    Result<> chains() {
        return channel_.ask(NFT_MSG_GETCHAIN, NFPROTO_INET, NLM_F_DUMP, {}, [&](const nlmsghdr& message) {
            const Handle<nftnl_chain, nftnl_chain_free> chain{nftnl_chain_alloc()};
            if (nftnl_chain_nlmsg_parse(&message, chain.get()) != 0 || nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE) != table_name) return;
            live_.ruleset->chains.push_back({nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME), hook_of(chain.get()), {}});
            live_.rule_handles[live_.ruleset->chains.back().name];
        });
    }

    Result<> rules() {
        return channel_.ask(NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP, name_table, [&](const nlmsghdr& message) {
            const Handle<nftnl_rule, nftnl_rule_free> rule{nftnl_rule_alloc()};
            if (nftnl_rule_nlmsg_parse(&message, rule.get()) != 0) return;
            const std::string chain = nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN);
            const auto found = std::ranges::find(live_.ruleset->chains, chain, &Chain::name);
            if (found == live_.ruleset->chains.end()) return;  // made after the chains were read: the generation will tell
            found->rules.push_back(read_rule(rule.get()));
            live_.rule_handles[chain].push_back(nftnl_rule_get_u64(rule.get(), NFTNL_RULE_HANDLE));
        });
    }

    Result<> sets() {
        return channel_.ask(NFT_MSG_GETSET, NFPROTO_INET, NLM_F_DUMP, name_table, [&](const nlmsghdr& message) {
            const Handle<nftnl_set, nftnl_set_free> set{nftnl_set_alloc()};
            if (nftnl_set_nlmsg_parse(&message, set.get()) != 0) return;
            live_.ruleset->sets.push_back(set_of(set.get()));
            if (const auto* count = attributes<set_count_attribute + 1>(message)[set_count_attribute]; count != nullptr)
                live_.element_counts[live_.ruleset->sets.back().name] = number_of(count);
        });
    }

    Result<> counters() {
        return channel_.ask(
            NFT_MSG_GETOBJ, NFPROTO_INET, NLM_F_DUMP,
            [](nlmsghdr* message) {
                name_table(message);
                mnl_attr_put_u32(message, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
            },
            [&](const nlmsghdr& message) { live_.counters.push_back(counter_of(message)); });
    }

    Channel& channel_;
    Live live_;
};

// ---- Kernel ---------------------------------------------------------------------------------------------------------

Kernel::Kernel(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}
Kernel::Kernel(Kernel&&) noexcept = default;
Kernel& Kernel::operator=(Kernel&&) noexcept = default;
Kernel::~Kernel() = default;

Result<Kernel> Kernel::open(Fd inherited) { return Kernel(TRY(Channel::open(std::move(inherited)))); }

std::uint32_t Kernel::port_id() const { return channel_->port_id(); }
int Kernel::fd() const { return channel_->fd(); }
Channel& Kernel::channel() const { return *channel_; }

Result<Live> Kernel::read(Elements elements) const {
    for (int attempt = 1;; ++attempt) {
        auto live = TableReader(channel()).read(elements);
        if (live || live.error().code != Code::stale || attempt == most_attempts) return live;
    }
}

Result<Generation> Kernel::generation() const { return TableReader(channel()).generation(); }
Result<std::vector<CounterValue>> Kernel::counters() const { return TableReader(channel()).values(); }
Result<> Kernel::read_elements(Set& set) const { return TableReader(channel()).read_elements(set); }

/// The batch from one state to the other. `whole`: nothing of the old table could stay.
Result<Batch> Kernel::change(const Live& from, const Ruleset& to, Ownership ownership, bool& whole) const {
    const auto flags = ownership == Ownership::owned ? owned_flags : 0U;
    const auto kept = from.table_flags & ~static_cast<std::uint32_t>(NFT_TABLE_F_DORMANT);
    Batch batch(from.generation);
    whole = !from.ruleset || kept != flags;
    if (!whole) {
        const bool adopt = ownership == Ownership::owned && from.owner != port_id();
        Transition(batch, from, to).write(flags, adopt);
        return batch;
    }
    if (from.ruleset) batch.delete_table();
    write_all(batch, to, flags, from.counters);
    return batch;
}

Result<> Kernel::verify(const Ruleset& to) const {
    const auto counts = TRY(TableReader(channel()).counts());
    for (const auto& set : to.sets) {
        std::size_t held = set.elements->size();
        if (const auto counted = counts.find(set.name); counted != counts.end()) {
            held = counted->second;
        } else if (set.elements->size() <= dumped_for_verification) {
            Set copy = set;
            TRY(read_elements(copy));
            held = copy.elements->size();
        }
        if (held != set.elements->size())
            return fail(Code::failed, "verify set", set.name, fmt::format("the kernel holds {} elements, not {}", held, set.elements->size()));
    }
    return {};
}

Result<Live> Kernel::commit(const Live& from, const Ruleset& to, Ownership ownership) {
    bool whole = false;
    auto batch = TRY(change(from, to, ownership, whole));
    if (batch.empty()) return from;
    batch.finish(true);
    TRY(channel().transact(batch));
    last_commit_ = std::chrono::steady_clock::now();
    TRY(verify(to));
    // Elements alone change no handle: what is known stays true, one generation later.
    const bool same_structure = !whole && batch.only_elements();
    Live after = same_structure ? from : TRY(read(Elements::none));
    if (same_structure) after.generation = from.generation == UINT32_MAX ? 1 : from.generation + 1;
    if (!after.ruleset) return fail(Code::stale, "read the ruleset", "", "the table went away again");
    for (auto& set : after.ruleset->sets)
        if (const auto* wanted = to.set(set.name); wanted != nullptr) set.elements = wanted->elements;
    return after;
}

Result<> Kernel::rehearse(const Live& from, const Ruleset& to, Ownership ownership) const {
    bool whole = false;
    auto batch = TRY(change(from, to, ownership, whole));
    if (batch.empty()) return {};
    batch.finish(false);
    return channel().transact(batch);
}

Result<Live> Kernel::remove(const Live& from) {
    if (!from.ruleset) return from;
    Batch batch(from.generation);
    batch.delete_table();
    batch.finish(true);
    TRY(channel().transact(batch));
    return read(Elements::none);
}

Kernel::Prepared Kernel::prepare(const Ruleset& to, Ownership ownership, std::span<const CounterValue> counters) const {
    const auto flags = ownership == Ownership::owned ? owned_flags : 0U;
    Batch batch(std::nullopt);
    write_all(batch, to, flags, counters, true);
    batch.finish(true);
    const auto last = batch.last_sequence();
    return {batch.take(), last};
}

Result<> Kernel::send(const Prepared& prepared) {
    TRY(channel().transact(prepared.batch, prepared.last_sequence, nullptr));
    last_commit_ = std::chrono::steady_clock::now();
    return {};
}

Result<bool> Kernel::can_own() const {
    // A table of another name, and no end to the batch: nothing is ever made.
    Batch batch(std::nullopt);
    batch.add_table(owned_flags, fmt::format("{}_probe", table_name));
    batch.finish(false);
    const auto probe = channel().transact(batch);
    if (probe) return true;
    if (probe.error().code == Code::unsupported || probe.error().number == EINVAL) return false;
    return std::unexpected(probe.error());
}

}  // namespace promwarden::firewall
