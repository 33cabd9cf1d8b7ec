/// Internal to the room: what is mounted where, by /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#pragma once

#include <cstdint>
#include <map>

#include "promwarden/base.hpp"

namespace promwarden::host {

struct Mount {
    std::uint64_t id = 0;
    std::uint32_t major = 0, minor = 0;
    std::string root;    // which part of the file system: "/" but for bind mounts and subvolumes
    std::string point;
    std::string type;    // "ext4", "fuse.sshfs"
    std::string source;  // "/dev/sda2"
    std::string options; // of the file system
};

using Mounts = std::map<std::uint64_t, Mount>;  // by id
/// Lines that are not entries are left out.
Mounts parse_mounts(std::string_view mountinfo);
Mounts read_mounts(const std::string& process);  // "/proc/self"

/// A file system whose answers come from another host or from a process: asking it may never end.
bool may_hang(std::string_view type);

}  // namespace promwarden::host
