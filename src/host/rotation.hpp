/// Internal to the room: the blocks of a logrotate configuration.
#pragma once

#include "promwarden/files.hpp"

namespace promwarden::host {

std::vector<LogRotation> parse_rotations(const std::string& path, std::string_view text);

}  // namespace promwarden::host
