// Lists of networks: one CIDR a line, '#' starts a comment.
#pragma once

#include "notes.hpp"

namespace promwarden::policy {

/// Brings `list` to the text of `source` (its index among the sources is `file`). Where `list` holds an earlier text, only the lines that differ are parsed and
/// only the classes they touch are made anew. False, with `list` as it was and notes of the first 20 errors, where a line is wrong.
bool read_list(const SourceFile& source, std::uint32_t file, ParsedList& list, Notes& notes);

/// All networks of both; a class that is in one of them only is shared with it.
Networks unite(const Networks& left, const Networks& right);

/// Where in a list this network is, as line and column.
std::optional<std::pair<std::uint32_t, std::uint32_t>> place_in_list(std::string_view text, const Cidr& cidr);

}  // namespace promwarden::policy
