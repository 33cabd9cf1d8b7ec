// Units: as systemd has them, or as their files say where it does not run.
#pragma once

#include <dirent.h>

#include "promwarden/unit.hpp"

namespace promwarden::host {

/// A unit file of a host, by the trust rule; of a mounted image, no link followed out of it.
Result<std::string> read_below(const std::string& root, const std::string& path, std::size_t limit);
/// A regular file, for who needs only parts of it, and a directory: of a mounted image, no link followed out of it.
Result<Fd> open_below(const std::string& root, const std::string& path);
Handle<DIR, ::closedir> list_below(const std::string& root, const std::string& path);

/// The files of a unit below `root`, fragment first, each key with its place. Code::missing where there is no such unit, Code::invalid where it is masked.
Result<std::vector<unit::Assignment>> read_unit_files(const std::string& name, const std::string& root);
/// Those files in particular; what cannot be read is left out.
std::vector<unit::Assignment> read_these_files(std::span<const std::string> paths, const std::string& root);

/// Whether systemd manages this host.
bool has_manager();
/// What systemd has loaded. Code::missing where there is no such unit.
Result<Unit> ask_manager(const std::string& name);

/// The command line that the unit would run, environment files read. `assignments` tell where it is written.
Result<CommandLine> configured_line(const Unit& unit, std::span<const unit::Assignment> assignments, const prometheus::Build& build, const std::string& root);

}  // namespace promwarden::host
