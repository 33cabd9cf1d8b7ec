/// access — who may do what with a file, as a remedy changes it. Part of the room facts: plain values, no I/O.
#pragma once

#include "promwarden/files.hpp"

namespace promwarden {

struct FileAccess {
    uid_t owner = 0;
    gid_t group = 0;
    mode_t mode = 0;
    std::vector<AclEntry> acl;
    bool operator==(const FileAccess&) const = default;
};
struct AccessChange {
    FileAccess before, after;
    bool operator==(const AccessChange&) const = default;
};

FileAccess access_of(const FileStatus& status);
/// Without its access list: the mode's group bits are then what its own group had, not the mask.
FileAccess without_list(FileAccess access);
/// "0640 uid 0 gid 113, with an access list".
std::string to_text(const FileAccess& access);
/// The value of the extended attribute system.posix_acl_access, parse_acl's other way.
std::string acl_bytes(std::span<const AclEntry> entries);

}  // namespace promwarden
