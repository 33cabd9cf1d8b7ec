// The site that [access] asks for: where nginx would read it, what it is to say, and the log that it writes.
#pragma once

#include "promwarden/apply.hpp"

namespace promwarden {

/// The control in whose name the site is installed where nobody asks for another.
inline constexpr std::string_view site_control = "access.roles";

/// Whether that policy describes a site, and these controls (none named: all) include one that it enforces. Pure.
bool asks_for_site(const Policy& policy, std::span<const std::string> only);
/// Whether that policy describes none, and an apply of another one installed it: then it goes.
bool has_left_site(const Policy& policy, const State& state);
/// The name by which nginx reads a file: of one in sites-available, the link in sites-enabled. Pure.
std::string active_name(const std::string& file);

/// As the distribution has it: sites-available and a link in sites-enabled where nginx.conf includes that, else conf.d. nullopt: nginx is not installed.
Result<std::optional<SitePlace>> read_site(const Policy& policy, const Facts& facts);
/// Adds what makes the site so; for a policy that describes none, what takes it away where it was looked for. What it cannot be yet, or not here, is a change without a deed that says why. Pure.
void plan_site(const Policy& policy, const ApplyFacts& facts, std::span<const std::string> only, Plan& plan);

/// Has nginx take these changes up. A site that comes finds a log that is closed: nginx would make one that all can read. `root`: where names begin.
Result<> take_up_site(const std::string& root, std::span<const Change> changes);

}  // namespace promwarden
