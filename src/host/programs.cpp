// Executables: dpkg's database as text, and the build information that Go's linker leaves in a program. Reads parts of files, bounded; runs nothing.

#include <algorithm>
#include <array>

#include <dirent.h>
#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "programs.hpp"
#include "units.hpp"

namespace promwarden::host {

namespace {

constexpr std::size_t most_list = 16 * 1024 * 1024, most_status = 64 * 1024 * 1024, most_information = 1024 * 1024;
constexpr std::string_view packages = "/var/lib/dpkg/";

/// Calls `line` with each line of a file below `root` until it says that it has enough. Memory is one block, whatever the file's size.
template <class Line>
void each_line(const std::string& root, const std::string& path, std::size_t limit, Line line) {
    const auto fd = open_below(root, path);
    if (!fd) return;
    std::string rest;
    std::array<char, 32 * 1024> block{};
    for (std::size_t total = 0; total < limit;) {
        const auto got = ::read(**fd, block.data(), block.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        total += static_cast<std::size_t>(got);
        rest.append(block.data(), static_cast<std::size_t>(got));
        std::size_t start = 0;
        for (auto end = rest.find('\n'); end != std::string::npos; end = rest.find('\n', start)) {
            if (!line(std::string_view(rest).substr(start, end - start))) return;
            start = end + 1;
        }
        rest.erase(0, start);
        if (rest.size() > limit / 4) return;
    }
    if (!rest.empty()) line(rest);
}

bool lists(const std::string& root, const std::string& list, std::string_view path) {
    bool found = false;
    each_line(root, list, most_list, [&](std::string_view line) { return !(found = line == path); });
    return found;
}

/// The package whose list of files has this path. The one that is called like the program is asked first: there are thousands.
std::string owner_of(const std::string& path, const std::string& root) {
    const auto info = fmt::format("{}info", packages);
    const auto base = path.substr(path.rfind('/') + 1);
    if (lists(root, fmt::format("{}/{}.list", info, base), path)) return base;
    if (path.starts_with("/usr/local/") || path.starts_with("/home/")) return {};  // packages do not go there
    const auto directory = list_below(root, info);
    if (!directory) return {};
    while (const auto* entry = ::readdir(directory.get())) {
        const std::string_view name = entry->d_name;
        if (!name.ends_with(".list") || !lists(root, fmt::format("{}/{}", info, name), path)) continue;
        const auto package = name.substr(0, name.size() - 5);
        return std::string(package.substr(0, package.find(':')));  // "libc6:amd64"
    }
    return {};
}

std::string installed_version(const std::string& package, const std::string& root) {
    std::string version;
    bool inside = false, installed = false;
    each_line(root, fmt::format("{}status", packages), most_status, [&](std::string_view line) {
        if (line.starts_with("Package: ")) {
            if (inside && installed && !version.empty()) return false;
            inside = line.substr(9) == package;
            version.clear();
            installed = false;
        } else if (inside && line.starts_with("Status: ")) installed = line.ends_with(" installed");
        else if (inside && line.starts_with("Version: ")) version = line.substr(9);
        return true;
    });
    return installed ? version : std::string();
}

// ---- dpkg's order of versions (deb-version(7)) ----------------------------------------------------------------------

int order_of(char c) {
    if (c == '~') return -1;
    if (c == 0 || (c >= '0' && c <= '9')) return 0;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter ? c : c + 256;
}

int compare_parts(std::string_view one, std::string_view other) {
    const auto digit = [](std::string_view text) { return !text.empty() && text.front() >= '0' && text.front() <= '9'; };
    const auto front = [](std::string_view text) { return text.empty() ? char{0} : text.front(); };
    while (!one.empty() || !other.empty()) {
        while ((!one.empty() && !digit(one)) || (!other.empty() && !digit(other))) {
            const auto difference = order_of(front(one)) - order_of(front(other));
            if (difference != 0) return difference;
            if (!one.empty()) one.remove_prefix(1);
            if (!other.empty()) other.remove_prefix(1);
        }
        while (front(one) == '0') one.remove_prefix(1);
        while (front(other) == '0') other.remove_prefix(1);
        int first = 0;
        while (digit(one) && digit(other)) {
            if (first == 0) first = one.front() - other.front();
            one.remove_prefix(1);
            other.remove_prefix(1);
        }
        if (digit(one)) return 1;
        if (digit(other)) return -1;
        if (first != 0) return first;
    }
    return 0;
}

struct Parts {
    std::string_view epoch, upstream, revision;
};

Parts parts_of(std::string_view version) {
    Parts parts;
    if (const auto colon = version.find(':'); colon != std::string_view::npos) {
        parts.epoch = version.substr(0, colon);
        version.remove_prefix(colon + 1);
    }
    const auto dash = version.rfind('-');
    parts.upstream = version.substr(0, dash);
    if (dash != std::string_view::npos) parts.revision = version.substr(dash + 1);
    return parts;
}

/// The versions of a package in one list of an archive.
void newest_in(const std::string& root, const std::string& list, std::string_view package, std::string& newest) {
    bool inside = false;
    each_line(root, list, most_status, [&](std::string_view line) {
        if (line.starts_with("Package: ")) inside = line.substr(9) == package;
        else if (inside && line.starts_with("Version: ") && compare_versions(line.substr(9), newest) > 0) newest = line.substr(9);
        return true;
    });
}

// ---- Go's build information -----------------------------------------------------------------------------------------

bool read_at(const Fd& fd, std::uint64_t offset, void* into, std::size_t size) {
    auto* bytes = static_cast<char*>(into);
    while (size > 0) {
        const auto got = ::pread(*fd, bytes, size, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        bytes += got;
        offset += static_cast<std::uint64_t>(got);
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

/// Where ".go.buildinfo" begins in the file, and how long it is.
std::optional<std::pair<std::uint64_t, std::uint64_t>> information_at(const Fd& fd) {
    Elf64_Ehdr header{};
    if (!read_at(fd, 0, &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return std::nullopt;
    if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum == 0 || header.e_shnum > 1000 || header.e_shstrndx >= header.e_shnum) return std::nullopt;
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    if (!read_at(fd, header.e_shoff, sections.data(), sections.size() * sizeof(Elf64_Shdr))) return std::nullopt;
    const auto& strings = sections[header.e_shstrndx];
    constexpr std::string_view wanted{".go.buildinfo", sizeof ".go.buildinfo"};  // with the NUL that ends a name
    for (const auto& section : sections) {
        std::array<char, wanted.size()> name{};
        if (section.sh_name >= strings.sh_size || !read_at(fd, strings.sh_offset + section.sh_name, name.data(), name.size())) continue;
        if (std::string_view(name.data(), name.size()) == wanted && section.sh_type != SHT_NOBITS) return std::pair{section.sh_offset, section.sh_size};
    }
    return std::nullopt;
}

/// A string as Go writes it there since 1.18: its length in seven bits a byte, then its bytes. `at` is moved behind it.
std::optional<std::string> inline_string(std::string_view data, std::size_t& at) {
    std::uint64_t length = 0;
    for (unsigned shift = 0; at < data.size() && shift < 35; shift += 7) {
        const auto byte = static_cast<unsigned char>(data[at++]);
        length |= std::uint64_t{byte & 0x7FU} << shift;
        if ((byte & 0x80U) != 0) continue;
        if (length > data.size() - at) return std::nullopt;
        at += length;
        return std::string(data.substr(at - length, length));
    }
    return std::nullopt;
}

bool plain_version(std::string_view text) {
    return !text.empty() && text.size() <= 64 && text.front() >= '0' && text.front() <= '9' &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '+' || c == '-' || c == '~'; });
}

std::string after(std::string_view text, std::string_view mark, std::string_view ends) {
    const auto at = text.find(mark);
    if (at == std::string_view::npos) return {};
    text.remove_prefix(at + mark.size());
    const auto version = text.substr(0, text.find_first_of(ends));
    return plain_version(version) ? std::string(version) : std::string();
}

/// Prometheus' modules are numbered v0.MINOR of 2 and, from 3 on, v0.3MM: "v0.301.2" is 3.1.2.
std::string of_module(std::string_view information) {
    const auto version = after(information, "mod\tgithub.com/prometheus/prometheus\tv0.", "\t\n+-");
    const auto dot = version.find('.');
    if (dot == std::string::npos || dot > 3) return {};
    const auto minor = version.substr(0, dot), rest = version.substr(dot);
    if (dot < 3) return "2." + minor + rest;
    const auto small = minor.substr(minor[1] == '0' ? 2 : 1);
    return fmt::format("{}.{}{}", minor[0], small, rest);
}

/// What Go wrote into a program when it built it: its own version, and what it was told.
struct Build {
    std::string go, information;
};
Build build_of(const Fd& program) {
    constexpr std::string_view magic = "\xff Go buildinf:";
    constexpr std::size_t header = 32;
    const auto place = information_at(program);
    if (!place || place->second < header) return {};
    std::string data(std::min<std::uint64_t>(place->second, most_information), '\0');
    if (!read_at(program, place->first, data.data(), data.size()) || !data.starts_with(magic)) return {};
    if ((static_cast<unsigned char>(data[15]) & 2U) == 0) return {};  // before Go 1.18: pointers
    std::size_t at = header;
    const auto go = inline_string(data, at);
    const auto information = go ? inline_string(data, at) : std::nullopt;
    return {go.value_or(""), information.value_or("")};
}

}  // namespace

std::string distribution_of(const std::string& root) {
    std::string id, version;
    const auto text = read_below(root, "/etc/os-release", 64 * 1024);
    if (!text) return {};
    const auto value = [](std::string_view line) {
        line.remove_prefix(line.find('=') + 1);
        if (line.size() >= 2 && (line.front() == '"' || line.front() == '\'')) line = line.substr(1, line.size() - 2);
        return std::string(line);
    };
    for (std::string_view rest = *text; !rest.empty();) {
        const auto line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        if (line.starts_with("ID=")) id = value(line);
        if (line.starts_with("VERSION_ID=")) version = value(line);
    }
    return version.empty() ? id : id + " " + version;
}

std::string package_of(const std::string& path, const std::string& root) {
    if (!path.starts_with('/')) return {};
    auto owner = owner_of(path, root);
    if (owner.empty() && path.starts_with("/usr/bin/")) owner = owner_of(path.substr(4), root);  // before /bin and /usr/bin became one
    if (owner.empty()) return {};
    const auto version = installed_version(owner, root);
    return version.empty() ? std::string() : fmt::format("{} {}", owner, version);
}

std::string unread_manager_of(const std::string& path, const std::string& root) {
    if (!path.starts_with("/usr/") && !path.starts_with("/bin/") && !path.starts_with("/opt/")) return {};
    if (path.starts_with("/usr/local/")) return {};
    constexpr std::pair<std::string_view, std::string_view> databases[] = {
        {"rpm", "/var/lib/rpm/rpmdb.sqlite"}, {"rpm", "/usr/lib/sysimage/rpm/rpmdb.sqlite"}, {"rpm", "/usr/lib/sysimage/rpm/Packages.db"}, {"rpm", "/var/lib/rpm/Packages"},
        {"apk", "/lib/apk/db/installed"},     {"pacman", "/var/lib/pacman/local/ALPM_DB_VERSION"}};
    for (const auto& [manager, database] : databases) {
        const auto opened = read_below(root, std::string(database), 0);  // there is no need for what is in it
        if (opened || opened.error().code != Code::missing) return std::string(manager);
    }
    return {};
}

int compare_versions(std::string_view one, std::string_view other) {
    const auto a = parts_of(one), b = parts_of(other);
    if (const auto epoch = compare_parts(a.epoch, b.epoch); epoch != 0) return epoch;
    if (const auto upstream = compare_parts(a.upstream, b.upstream); upstream != 0) return upstream;
    return compare_parts(a.revision, b.revision);
}

std::string security_update(const std::string& package, const std::string& root) {
    const auto space = package.find(' ');
    if (space == std::string::npos) return {};
    const auto name = package.substr(0, space), installed = package.substr(space + 1);
    const std::string lists_directory = "/var/lib/apt/lists";
    const auto directory = list_below(root, lists_directory);
    if (!directory) return {};
    std::string newest = installed;
    while (const auto* entry = ::readdir(directory.get()))
        if (const std::string_view list = entry->d_name; list.contains("security") && list.ends_with("_Packages")) newest_in(root, fmt::format("{}/{}", lists_directory, list), name, newest);
    return newest == installed ? std::string() : newest;
}

std::string version_in(const Fd& program) {
    const auto built = build_of(program);
    if (auto version = after(built.information, "github.com/prometheus/common/version.Version=", " \"'\t\n\\"); !version.empty()) return version;
    return of_module(built.information);
}

std::string go_version_in(const Fd& program) { return after(build_of(program).go, "go", " -\t\n"); }

std::string upstream_of(std::string_view version) {
    if (const auto colon = version.find(':'); colon != std::string_view::npos) version.remove_prefix(colon + 1);
    version = version.substr(0, version.find_first_of("+~-"));
    return plain_version(version) ? std::string(version) : std::string();
}

}  // namespace promwarden::host
