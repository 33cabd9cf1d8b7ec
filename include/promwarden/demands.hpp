/// demands — what a policy asks of Prometheus' unit, control by control: the flags of its command line, and the settings that confine it. Part of the room controls.
///
/// What a control finds wrong, its demand puts right, and leaves everything else as it is; where nothing is wrong it changes nothing. Pure.
#pragma once

#include "promwarden/flags.hpp"
#include "promwarden/policy.hpp"

namespace promwarden {

using Flags = std::vector<Flag>;

struct FlagDemand {
    std::string_view control;
    void (*put_right)(const Policy& policy, const prometheus::Build& build, Flags& flags);
    bool names_web_config = false;  // makes the server read the web.yml of the policy, which has to be there then
};
std::span<const FlagDemand> flag_demands();
/// The words of a command line with these flags, the program first.
std::vector<std::string> words_of(const std::string& program, const Flags& flags);

/// A setting of [Service], as unit files write it.
struct UnitSetting {
    std::string name, value;
    bool operator==(const UnitSetting&) const = default;
};
/// What config.service-sandbox misses in a unit that would run that command line, without what would keep it from its own files. `account` is as whom it could run
/// where the unit names nobody; "" for nobody.
std::vector<UnitSetting> missing_settings(const Unit& unit, const CommandLine& line, const std::string& account);

}  // namespace promwarden
