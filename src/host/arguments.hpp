// What a process shows of itself: its arguments, the files that they name, its listeners in a network namespace of its own.
#pragma once

#include "processes.hpp"
#include "promwarden/flags.hpp"

namespace promwarden::host {

/// /proc/PID/cmdline as words. Code::limit beyond 1 MiB.
Result<std::vector<std::string>> arguments_of(const Fd& process, pid_t pid);

/// Opens a file that a process named, as the process would find it, and reads it only if the process itself may (by its mode bits), if it is a regular file on a local
/// file system, and if no link is on the way. A service can name any file; we must not read for it what it may not.
Result<std::string> read_for(const Fd& process, const Identity& identity, const std::string& path, std::size_t limit);

/// The TCP sockets in LISTEN of the network namespace that a process is in, of those inodes. From its tables as text: sock_diag knows only our own namespace.
std::vector<Listener> listeners_there(const Fd& process, const std::set<std::uint32_t>& inodes);

}  // namespace promwarden::host
