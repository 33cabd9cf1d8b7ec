/// firewall — Policy → Ruleset, Ruleset ⇄ kernel.
///
/// Owns the table `inet promwarden` and touches no other. `compile`, `difference` and `trace` are pure; `Kernel` is the one place that speaks netlink
/// (libmnl and libnftnl). A change is one transaction: a batch that carries the generation it was computed for, and that the kernel takes whole or not at all.
/// Not thread-safe; one Kernel per thread.
#pragma once

#include <functional>

#include "promwarden/policy.hpp"

namespace promwarden::firewall {

// ---- what should be -------------------------------------------------------------------------------------------------

/// What the ruleset depends on besides the policy.
struct Surroundings {
    std::vector<std::string> container_interfaces;  // learned bridges without a physical port, veths and macvlans of this namespace; none that has a default route
    std::vector<std::string> container_bridges;     // the bridges among them that no gateway is behind
    std::optional<uid_t> probe_user;                // always among a service's local users
    bool watched = false;                           // somebody follows links as they come and go; else engines' usual names are matched as well
    bool operator==(const Surroundings&) const = default;
};
Surroundings surroundings(std::span<const Link> links);

/// The ruleset that the policy means. `previous` lends sets their declared sizes, so that growing by one element is not a new set.
Ruleset compile(const FirewallPolicy& policy, const Surroundings& surroundings, const Ruleset* previous = nullptr);

/// Closes the given TCP ports to everything but loopback: what protects a host whose policy was lost.
Ruleset closed(std::span<const std::uint16_t> ports);

// ---- difference -----------------------------------------------------------------------------------------------------

/// One line of a plan: "+ element guard_office_ip4_24 192.0.2.0", in the order in which the kernel does them.
struct Edit {
    enum class Kind : std::uint8_t { add, remove } kind = Kind::add;
    std::string object;   // "table", "chain guard_pre", "rule guard_pre", "set …", "element …", "counter …"
    std::string text;
    std::uint64_t count = 1;  // how many elements a folded line stands for
};

struct Difference {
    std::vector<Edit> edits;
    [[nodiscard]] bool empty() const { return edits.empty(); }
};

/// What has to change to get from one ruleset to the other; `from` nullopt: there is no table. Elements beyond the first 20 of a set become one line with a count.
Difference difference(const Ruleset* from, const Ruleset* to);
std::string to_text(const Difference& difference);

// ---- what happens to a packet ---------------------------------------------------------------------------------------

struct Packet {
    Address source;
    std::optional<Address> destination;  // default: an address of this host
    std::uint16_t port = 0;
    Protocol protocol = Protocol::tcp;
    bool loopback = false;
    std::optional<uid_t> user;           // of the sending process, for loopback
};
struct Step {
    std::string chain, rule;  // the rule as text
    std::string note;         // "203.0.113.5 is not in guard_office_ip4_24"
};
struct Trace {
    bool passes = true;
    bool rejected = false;     // refused, not ignored
    bool guarded = false;      // some rule looked at this port
    std::string hook;          // where it was decided
    std::vector<Step> steps;   // the rules that matched, and the lookups that did not, in order
    std::string set;           // the set that admitted it
    std::optional<Cidr> network;
};
/// Runs a packet through a ruleset, as the kernel would.
Trace trace(const Ruleset& ruleset, const Packet& packet);

// ---- the kernel -----------------------------------------------------------------------------------------------------

struct Generation {
    std::uint32_t id = 0;
    pid_t pid = 0;            // who made it, in the initial pid namespace; 0 where the kernel does not say
    std::string comm;
};

/// Where a table's flags are not what they should be, everything in it is made anew.
enum class Ownership : std::uint8_t { plain, owned };

/// The table as it was read, with the kernel's own numbers.
struct Live {
    std::uint32_t generation = 0;
    std::uint32_t table_flags = 0;  // NFT_TABLE_F_*
    std::uint64_t owner = 0;        // port id of the owning socket, 0: nobody
    std::optional<Ruleset> ruleset; // nullopt: no such table
    std::map<std::string, std::vector<std::uint64_t>> rule_handles;  // per chain, in order
    std::map<std::string, std::uint32_t> element_counts;             // where the kernel tells (NFTA_SET_COUNT)
    std::vector<CounterValue> counters;
};

/// Whether a table is made to be owned, whoever owns it now.
Ownership ownership_of(const Live& live);

/// How much of the sets to read back. Dumping a large set is slow, so steady state reads their number only.
enum class Elements : std::uint8_t { none, all };

class Channel;
class Batch;

class Kernel {
public:
    /// Opens the command socket; `inherited` is one kept by the service manager across a restart, which may still own the table.
    static Result<Kernel> open(Fd inherited = {});
    Kernel(Kernel&&) noexcept;
    Kernel& operator=(Kernel&&) noexcept;
    ~Kernel();

    /// The table as it is. Reads again, up to 10 times, when a dump was interrupted or the generation moved meanwhile.
    Result<Live> read(Elements elements) const;
    Result<Generation> generation() const;
    Result<std::vector<CounterValue>> counters() const;

    /// Makes the table what `to` says, in one transaction against `from` (which must be current: Code::stale otherwise, nothing changed). Returns the state
    /// after it, elements taken from `to` and their number verified against the kernel.
    Result<Live> commit(const Live& from, const Ruleset& to, Ownership ownership);
    /// The same batch without its end: the kernel checks every part and drops it.
    Result<> rehearse(const Live& from, const Ruleset& to, Ownership ownership) const;
    /// Removes the table.
    Result<Live> remove(const Live& from);

    /// Fills in a set's elements from the kernel.
    Result<> read_elements(Set& set) const;

    /// A whole table ready to send: what heals a deleted one without looking first. Code::conflict where there is a table after all.
    struct Prepared {
        std::vector<std::uint8_t> batch;
        std::uint32_t last_sequence = 0;
    };
    Prepared prepare(const Ruleset& to, Ownership ownership, std::span<const CounterValue> counters) const;
    Result<> send(const Prepared& prepared);

    /// Whether this kernel lets a socket own a table that outlives it (6.9+). Asked by a rehearsal.
    Result<bool> can_own() const;
    [[nodiscard]] std::uint32_t port_id() const;
    /// When the kernel acknowledged the last transaction that changed something: what came after it was looking.
    [[nodiscard]] std::chrono::steady_clock::time_point last_commit() const { return last_commit_; }
    [[nodiscard]] int fd() const;
    /// For the other files of this room.
    [[nodiscard]] Channel& channel() const;

private:
    explicit Kernel(std::unique_ptr<Channel> channel);
    Result<Batch> change(const Live& from, const Ruleset& to, Ownership ownership, bool& whole) const;
    Result<> verify(const Ruleset& to) const;

    std::unique_ptr<Channel> channel_;
    std::chrono::steady_clock::time_point last_commit_{};
};

/// Something in our table that a change touched.
struct Announcement {
    enum class Kind : std::uint8_t { table, chain, rule, set, element, counter, flowtable } kind = Kind::table;
    bool added = false;
    std::string name;                   // of a rule its chain, of an element its set
    std::vector<std::uint8_t> message;  // of a rule: the kernel's own, read when somebody asks what it says
};

/// One change of a ruleset by somebody, as the kernel announces it. Cheap to make: it is on the way from a drift to its undoing.
struct Change {
    Generation generation;
    std::uint32_t port_id = 0;    // of the socket that made it
    bool ours = false;            // it touched our table
    bool table_removed = false;
    bool foreign_rules = false;   // it touched another table
    std::size_t foreign_elements = 0;            // of sets there, added or removed
    std::vector<Announcement> announcements;     // of our table, in order; several elements of one set in a row are one
    std::map<std::string, PackedKeys> added_elements, removed_elements;  // by set of our table
    bool incomplete = false;      // more than is remembered
};

/// "rule of chain guard_pre deleted: …", at most 20.
std::vector<std::string> describe(const Change& change);

/// Brings `live` up to date with a change of rules and elements, without asking the kernel. False where that cannot be done (it is not the next generation, sets or
/// chains came or went, elements are not known): `live` is then of no more use.
bool follow(Live& live, const Change& change);

/// The multicast group of nf_tables. A listener makes other tools' large loads cost the kernel memory, so it can be left.
class Monitor {
public:
    static Result<Monitor> open();
    Monitor(Monitor&&) noexcept;
    Monitor& operator=(Monitor&&) noexcept;
    ~Monitor();
    [[nodiscard]] int fd() const;
    /// The next complete change, nullopt when there is none yet; Code::stale after an overflow (ENOBUFS): something was missed, look at everything.
    Result<std::optional<Change>> next();

private:
    struct Inbox;
    explicit Monitor(std::unique_ptr<Inbox> inbox);
    std::unique_ptr<Inbox> inbox_;
};

/// Rules of other tables, as far as network.bypass and `why` need them.
struct ForeignChain {
    std::string family, table, name, type;  // "ip", "nat", "PREROUTING", "nat"
    std::optional<int> hook;                // NF_INET_*, or NF_NETDEV_*
    int priority = 0;
    bool drops_by_default = false;
    std::vector<std::string> devices;
    std::vector<Rule> rules;                // unknown expressions as expr::Foreign with the kernel's name ("redir", "tproxy", "nat", "fwd" …)
};
struct ForeignRules {
    std::vector<ForeignChain> chains;
    std::vector<std::string> flowtables;
    std::uint64_t largest_set = 0;          // elements, or the declared size where the kernel does not count
};
Result<ForeignRules> read_foreign(const Kernel& kernel);

}  // namespace promwarden::firewall
