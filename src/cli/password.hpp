// A password from whoever runs the command: never an argument, which every user of this host could read.
#pragma once

#include "command.hpp"

namespace promwarden::cli {

/// From a terminal without echo, asked twice; where standard input is none, its first line.
Or<std::string> read_password(std::string_view whose);

}  // namespace promwarden::cli
