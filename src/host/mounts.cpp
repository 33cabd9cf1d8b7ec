#include "mounts.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace promwarden::host {

namespace {

constexpr std::size_t most_text = 16 << 20;

template <class Number>
bool number(std::string_view text, Number& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size();
}

/// Octal escapes: "\040" is a space.
std::string unescaped(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto octal = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '7'; };
        if (text[i] == '\\' && i + 3 < text.size() && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
            plain.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
            i += 3;
        } else {
            plain.push_back(text[i]);
        }
    }
    return plain;
}

std::vector<std::string_view> words(std::string_view line) {
    std::vector<std::string_view> all;
    while (!line.empty()) {
        const auto end = std::min(line.find(' '), line.size());
        if (end > 0) all.push_back(line.substr(0, end));
        line.remove_prefix(std::min(end + 1, line.size()));
    }
    return all;
}

/// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
std::optional<Mount> parse_line(std::string_view line) {
    const auto fields = words(line);
    const auto dash = std::ranges::find(fields, "-");
    if (fields.size() < 6 || fields.end() - dash < 4 || dash - fields.begin() < 6) return std::nullopt;
    Mount mount;
    const auto colon = fields[2].find(':');
    if (colon == std::string_view::npos || !number(fields[0], mount.id) || !number(fields[2].substr(0, colon), mount.major) || !number(fields[2].substr(colon + 1), mount.minor))
        return std::nullopt;
    mount.root = unescaped(fields[3]);
    mount.point = unescaped(fields[4]);
    mount.type = unescaped(dash[1]);
    mount.source = unescaped(dash[2]);
    mount.options = unescaped(dash[3]);
    return mount;
}

}  // namespace

Mounts parse_mounts(std::string_view mountinfo) {
    Mounts mounts;
    while (!mountinfo.empty()) {
        const auto end = std::min(mountinfo.find('\n'), mountinfo.size());
        if (auto mount = parse_line(mountinfo.substr(0, end))) mounts.emplace(mount->id, *std::move(mount));
        mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
    }
    return mounts;
}

Mounts read_mounts(const std::string& process) {
    const auto file = read_file(process + "/mountinfo", most_text);
    return file ? parse_mounts(file->text) : Mounts{};
}

bool may_hang(std::string_view type) {
    constexpr std::string_view types[] = {"fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "virtiofs", "ceph", "afs", "coda", "autofs", "lustre", "gfs2", "ocfs2", "orangefs"};
    return type.starts_with("fuse.") || std::ranges::find(types, type) != std::end(types);
}

}  // namespace promwarden::host
