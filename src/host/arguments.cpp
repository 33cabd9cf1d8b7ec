#include "arguments.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace promwarden::host {

namespace {

constexpr std::size_t most_arguments = 1024 * 1024, most_table = 16 * 1024 * 1024;

/// File systems whose server decides when, and whether, an answer comes.
bool may_hang(const Fd& fd) {
    constexpr long types[] = {0x65735546, 0x6969, static_cast<long>(0xFF534D42), static_cast<long>(0xFE534D42), 0x517B, 0x01021997, 0x00C36400, 0x5346414F, 0x0187};  // FUSE NFS CIFS SMB2 SMB 9P CEPH AFS autofs
    struct statfs system {};
    return ::fstatfs(*fd, &system) != 0 || std::ranges::find(types, static_cast<long>(system.f_type)) != std::end(types);
}

bool may(const struct stat& status, const Identity& identity, mode_t bit) {
    if (identity.uid == 0) return true;
    if (status.st_uid == identity.uid) return (status.st_mode & (bit << 6)) != 0;
    const bool member = status.st_gid == identity.gid || std::ranges::find(identity.groups, status.st_gid) != identity.groups.end();
    return (status.st_mode & (member ? bit << 3 : bit)) != 0;
}

/// One step down, by name, no link followed.
Result<Fd> step(const Fd& at, const std::string& part, const Identity& identity, bool last, const std::string& path) {
    Fd next{::openat(*at, part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!next) return fail_errno("open", path);
    struct stat status {};
    if (::fstat(*next, &status) != 0) return fail_errno("open", path);
    if (S_ISLNK(status.st_mode)) return fail(Code::untrusted, "open", path, "a symbolic link is on the way");
    if (may_hang(next)) return fail(Code::untrusted, "open", path, "on a FUSE or network file system, which can hang its reader");
    if (last ? !S_ISREG(status.st_mode) : !S_ISDIR(status.st_mode)) return fail(Code::invalid, "open", path, last ? "not a regular file" : "not a directory");
    if (!may(status, identity, last ? S_IROTH : S_IXOTH)) return fail(Code::untrusted, "open", path, "the process itself may not read it");
    return next;
}

Address address_from(std::string_view hex) {
    Address address;
    address.family = hex.size() == 8 ? Family::ip4 : Family::ip6;
    for (std::size_t word = 0; word * 8 < hex.size(); ++word) {  // each 32-bit word in the machine's order
        std::uint32_t value = 0;
        std::from_chars(hex.data() + word * 8, hex.data() + word * 8 + 8, value, 16);
        std::memcpy(address.bytes.data() + word * 4, &value, 4);
    }
    return address;
}

/// The fields of one line of /proc/net/tcp: "sl local remote st queues timer retrnsmt uid timeout inode …".
std::optional<Listener> listener_in(std::string_view line) {
    std::array<std::string_view, 10> fields;
    std::size_t count = 0;
    while (!line.empty() && count < fields.size()) {
        line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
        fields[count] = line.substr(0, line.find(' '));
        line.remove_prefix(fields[count].size());
        if (!fields[count].empty()) ++count;
    }
    constexpr std::string_view listening = "0A";
    const auto colon = fields[1].find(':');
    if (count < fields.size() || fields[3] != listening || (colon != 8 && colon != 32)) return std::nullopt;
    Listener listener;
    listener.endpoint.address = address_from(fields[1].substr(0, colon));
    std::from_chars(fields[1].data() + colon + 1, fields[1].data() + fields[1].size(), listener.endpoint.port, 16);
    listener.uid = number_in<uid_t>(fields[7]).value_or(0);
    listener.inode = number_in<std::uint32_t>(fields[9]).value_or(0);
    listener.v6only = false;  // the table does not say
    return listener;
}

}  // namespace

Result<std::vector<std::string>> arguments_of(const Fd& process, pid_t pid) {
    const auto text = read_text(process, "cmdline", most_arguments);
    if (!text) return fail(Code::denied, "read arguments of", fmt::format("process {}", pid));
    if (text->size() >= most_arguments) return fail(Code::limit, "read arguments of", fmt::format("process {}", pid), fmt::format("more than {} bytes", most_arguments));
    std::vector<std::string> words;
    for (std::string_view rest = *text; !rest.empty();) {
        const auto word = rest.substr(0, rest.find('\0'));
        words.emplace_back(word);
        rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    }
    return words;
}

Result<std::string> read_for(const Fd& process, const Identity& identity, const std::string& path, std::size_t limit) {
    Fd at{::openat(*process, path.starts_with('/') ? "root" : "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!at) return fail_errno("open", path);
    std::string_view rest = path;
    while (true) {
        rest.remove_prefix(std::min(rest.find_first_not_of('/'), rest.size()));
        const std::string part(rest.substr(0, rest.find('/')));
        rest.remove_prefix(part.size());
        if (part.empty()) return fail(Code::invalid, "open", path, "not a regular file");
        if (part == "..") return fail(Code::untrusted, "open", path, "'..' is on the way");
        const bool last = rest.find_first_not_of('/') == std::string_view::npos;
        at = TRY(step(at, part, identity, last, path));
        if (last) break;
    }
    auto file = read_file(fmt::format("/proc/self/fd/{}", *at), limit);
    if (!file) {
        file.error().subject = path;
        return std::unexpected(std::move(file).error());
    }
    return std::move(file->text);
}

std::vector<Listener> listeners_there(const Fd& process, const std::set<std::uint32_t>& inodes) {
    std::vector<Listener> found;
    for (const char* table : {"net/tcp", "net/tcp6"}) {
        const auto text = read_text(process, table, most_table);
        if (!text) continue;
        for (std::string_view rest = *text; !rest.empty();) {
            const auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(rest.size(), line.size() + 1));
            if (auto listener = listener_in(line); listener && inodes.contains(listener->inode)) found.push_back(*std::move(listener));
        }
    }
    return found;
}

}  // namespace promwarden::host
