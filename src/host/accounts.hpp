// Accounts by the files of a host or an image: no name service is asked, which could wait for a server on the network.
#pragma once

#include "promwarden/server.hpp"

namespace promwarden::host {

/// As whom a unit's processes run. Nullopt where the files do not have its user: one of a directory, or of DynamicUser=.
std::optional<Identity> account_of(const Unit& unit, const std::string& root);

/// Names of groups, as far as the files have them.
std::vector<std::string> names_of(std::span<const gid_t> groups, const std::string& root);

}  // namespace promwarden::host
