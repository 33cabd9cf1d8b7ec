#include "promwarden/access.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace promwarden {

FileAccess access_of(const FileStatus& status) { return {status.owner, status.group, status.mode, status.acl}; }

FileAccess without_list(FileAccess access) {
    const auto own = std::ranges::find(access.acl, AclEntry::Tag::owning_group, &AclEntry::tag);
    if (own != access.acl.end()) access.mode = (access.mode & ~mode_t{070}) | (access.mode & static_cast<mode_t>(own->rights << 3));
    access.acl.clear();
    return access;
}

std::string to_text(const FileAccess& access) {
    return fmt::format("{:04o} uid {} gid {}{}", access.mode, access.owner, access.group, access.acl.empty() ? "" : ", with an access list");
}

std::string acl_bytes(std::span<const AclEntry> entries) {
    constexpr std::array<std::uint16_t, 6> tags{0x01, 0x02, 0x04, 0x08, 0x10, 0x20};
    std::string bytes;
    const auto put = [&](std::uint32_t value, int size) {
        for (int i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
    };
    put(2, 4);
    for (const auto& entry : entries) {
        const bool named = entry.tag == AclEntry::Tag::user || entry.tag == AclEntry::Tag::group;
        put(tags[static_cast<std::size_t>(entry.tag)], 2);
        put(entry.rights, 2);
        put(named ? entry.id : ~0U, 4);
    }
    return bytes;
}

}  // namespace promwarden
