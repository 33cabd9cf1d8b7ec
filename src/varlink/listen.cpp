// A listening socket at a path that nobody else could have prepared.

#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.hpp"
#include "promwarden/varlink.hpp"

namespace promwarden::varlink {

namespace {

Result<Fd> open_parent(const std::filesystem::path& path) {
    const auto parent = path.parent_path();
    if (!path.is_absolute() || !path.has_filename()) return fail(Code::invalid, "listen", path, "the path must be absolute");
    // Component by component: openat2 would do it in one call, but a service that may not make set-user-ID files has no openat2 (systemd, RestrictSUIDSGID).
    Fd directory{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    for (const auto& part : parent.relative_path()) {
        if (part == "..") return fail(Code::invalid, "listen", path, "the path must not contain '..'");
        Fd next{::openat(*directory, part.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
        const int number = errno;
        char first = 0;
        if (!next) return fail_errno("open", parent, ::readlinkat(*directory, part.c_str(), &first, 1) >= 0 ? ELOOP : number);
        directory = std::move(next);
    }
    return directory;
}

/// Removes a socket that nobody answers on; anything else there is a conflict.
Result<> remove_stale(const Fd& directory, const std::string& name, const std::string& path) {
    const Fd old{::openat(*directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!old) return errno == ENOENT ? Result<>{} : fail_errno("open", path);
    struct stat status {
    }, now{};
    if (::fstat(*old, &status) != 0) return fail_errno("open", path);
    if (!S_ISSOCK(status.st_mode)) return fail(Code::conflict, "listen", path, "something that is not a socket has this name");
    const Fd knocking{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!knocking) return fail_errno("make socket", path);
    const auto address = TRY(unix_address(path));
    if (::connect(*knocking, address.generic(), address.size) == 0 || errno == EAGAIN)
        return fail(Code::conflict, "listen", path, "another process serves this socket");
    if (errno != ECONNREFUSED) return fail_errno("connect", path);
    // The name still stands for the socket that was judged.
    if (::fstatat(*directory, name.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0 || now.st_ino != status.st_ino || now.st_dev != status.st_dev)
        return fail(Code::conflict, "listen", path, "another process is replacing this socket");
    if (::unlinkat(*directory, name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno("remove stale socket", path);
    return {};
}

/// Gives the new name, which only its owner can use so far, its group and mode.
Result<> open_to_group(const Fd& directory, const std::string& name, const std::string& path, gid_t group) {
    const Fd file{::openat(*directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    struct stat status {};
    if (!file || ::fstat(*file, &status) != 0) return fail_errno("open", path);
    if (!S_ISSOCK(status.st_mode) || status.st_uid != ::geteuid())
        return fail(Code::conflict, "listen", path, "another process is replacing this socket");
    // In a set-group-ID directory it has its group already, and a sandbox that forbids chown need not mind.
    if (status.st_gid != group && ::fchownat(*file, "", static_cast<uid_t>(-1), group, AT_EMPTY_PATH) != 0) return fail_errno("change group of", path);
    if (::chmod(fmt::format("/proc/self/fd/{}", *file).c_str(), 0660) != 0) return fail_errno("change mode of", path);
    return {};
}

}  // namespace

Result<UnixAddress> unix_address(const std::string& path) {
    UnixAddress address;
    address.value.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.value.sun_path || path.find('\0') != std::string::npos)
        return fail(Code::invalid, "use socket", path, fmt::format("a path has 1 to {} bytes", sizeof address.value.sun_path - 1));
    std::memcpy(address.value.sun_path, path.c_str(), path.size() + 1);
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return address;
}

Result<Fd> listen(const std::string& path, std::optional<gid_t> group) {
    const auto address = TRY(unix_address(path));
    const auto directory = TRY(open_parent(path));
    const auto name = std::filesystem::path(path).filename().string();
    TRY(remove_stale(directory, name, path));
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) return fail_errno("make socket", path);
    // The mode of the socket becomes that of its name, so it is never wider than this. bind(2) follows no link in the last component.
    if (::fchmod(*fd, 0600) != 0) return fail_errno("change mode of", path);
    if (::bind(*fd, address.generic(), address.size) != 0) return fail_errno("bind", path);
    if (group) TRY(open_to_group(directory, name, path, *group));
    if (::listen(*fd, 64) != 0) return fail_errno("listen", path);
    return fd;
}

}  // namespace promwarden::varlink
