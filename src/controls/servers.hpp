// What the controls over servers share: whom they judge, where a flag is written, and how several servers' findings become one decision.
#pragma once

#include "families.hpp"
#include "promwarden/flags.hpp"

namespace promwarden {

/// What is known about one control so far.
struct Gathered {
    std::vector<Finding> findings;
    std::vector<std::string> undecided;  // why it could not be decided: "prometheus.service: @args: open …"
    std::vector<std::string> notes;      // worth a mention where nothing is wrong
    bool judged = false;                 // something was there to judge

    /// fail, else unknown, else pass with `holds`, else not-applicable with `nothing`.
    [[nodiscard]] Decision decide(std::string holds, std::string nothing) &&;
};

/// The servers that are judged: the unit's, whether it runs or not, and those in containers. Strangers are only ever reported.
std::vector<const Server*> judged_servers(const Facts& facts);
/// "no Prometheus runs here, and there is no unit prometheus.service".
std::string no_server(const Policy& policy);

/// Whether a container belongs to the monitoring, by its image and name.
bool is_monitoring(const Container& container);

/// "in /etc/default/prometheus", "in ExecStart of /etc/…", "in the arguments of the container".
std::string place_of(const Server& server, const Flag& flag);
/// How a change of flags takes effect: "then systemctl restart prometheus.service".
std::string then_restart(const Server& server);
std::optional<Location> location_of(const Flag& flag);
/// Where a setting of the unit is written; the unit's own file where none is.
std::optional<Location> place_of_setting(const Unit& unit, const std::string& key);
/// The flag as it may be shown: without what could be a secret.
std::string shown(const Flag& flag);
std::string shown_url(std::string_view text);

/// One value of a flag as one witness tells it.
struct Witness {
    std::string value;
    bool given = false;     // else it is the default
    Evidence evidence = Evidence::process;
    const Flag* flag = nullptr;
    std::string_view when;  // "" now, "after a restart"
};
/// What a flag is now, and, where the unit says something else, what it will be. Says in `gathered` where that could not be told.
std::vector<Witness> witnesses(const Server& server, std::string_view name, Gathered& gathered);

// ---- what a single flag says, for whoever judges command lines -------------------------------------------------------

/// Whether a page of a site that nobody named may read the answers under that --web.cors.origin; nullopt where the pattern does not compile.
std::optional<bool> lets_strangers_in(const std::string& pattern);

struct LooseLimit {
    std::string_view most;  // the default
    bool none = false;      // it switches the limit off
};
/// A limit on queries that is looser than its default.
std::optional<LooseLimit> looser_than_default(const Flag& flag, const prometheus::Build& build);

/// Whether that --web.listen-address is one of the policy's, or loopback where it names none; nullopt where only a resolver could tell.
std::optional<bool> listens_as_allowed(const Policy& policy, std::string_view value);
std::string listening_expected(const Policy& policy);

/// The flags of retention that have to be set, by name, for a line with these flags to keep no more than the policy says.
std::map<std::string, std::string> retention_wanted(const Policy& policy, const std::vector<Flag>& flags);

}  // namespace promwarden
