// Files, opened component by component and published by rename.

#include <algorithm>
#include <climits>
#include <deque>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "promwarden/base.hpp"

namespace promwarden {

namespace {

constexpr int most_links = 40;

std::int64_t nanoseconds(const timespec& time) { return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileStamp stamp_of(const struct stat& status) {
    return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}

/// Whether nobody but root (or the caller) can write it. A sticky directory is one in which nobody can replace what is not theirs.
bool trusted(const struct stat& status) {
    if (status.st_uid != 0 && status.st_uid != ::geteuid()) return false;
    if (S_ISLNK(status.st_mode)) return true;
    if (S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0) return true;
    return (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

std::string who_can_write(const struct stat& status) {
    if (status.st_uid != 0 && status.st_uid != ::geteuid()) return fmt::format("it belongs to uid {}", status.st_uid);
    return fmt::format("its mode {:04o} lets others write it", status.st_mode & 07777);
}

/// Walks the path from the root, one component at a time, judging each on its descriptor. What it returns is what was judged: no name is resolved twice.
Result<Fd> walk_trusted(const std::string& path) {
    std::string absolute = path;
    if (!path.starts_with('/')) {
        std::string here(PATH_MAX, '\0');
        if (::getcwd(here.data(), here.size()) == nullptr) return fail_errno("open", path);
        absolute = std::string(here.c_str()) + "/" + path;
    }
    std::deque<std::string> parts;
    put_before(parts, absolute);
    std::vector<Fd> above;  // the directories walked through, for ".."
    Fd at{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!at) return fail_errno("open", "/");
    int links = 0;
    while (!parts.empty()) {
        const std::string part = std::move(parts.front());
        parts.pop_front();
        if (part == "..") {
            if (!above.empty()) {
                at = std::move(above.back());
                above.pop_back();
            }
            continue;
        }
        Fd next{::openat(*at, part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        if (!next) return fail_errno("open", path);
        struct stat status {};
        if (::fstat(*next, &status) != 0) return fail_errno("open", path);
        if (!trusted(status)) return fail(Code::untrusted, "refuse", path, fmt::format("'{}' is not safe: {}", part, who_can_write(status)));
        if (S_ISLNK(status.st_mode)) {
            if (++links > most_links) return fail_errno("open", path, ELOOP);
            const auto target = TRY(link_target(next, path));
            if (target.starts_with('/')) {
                above.clear();
                at = Fd{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
            }
            put_before(parts, target);
            continue;
        }
        above.push_back(std::move(at));
        at = std::move(next);
    }
    return at;
}

/// What an O_PATH descriptor names, if it is a regular file on a file system that cannot hang us.
Result<struct stat> regular(const Fd& named, const std::string& path) {
    struct stat status {};
    if (::fstat(*named, &status) != 0) return fail_errno("open", path);
    if (S_ISDIR(status.st_mode)) return fail_errno("read", path, EISDIR);
    if (!S_ISREG(status.st_mode)) return fail(Code::invalid, "read", path, "not a regular file");
    constexpr long fuse = 0x65735546, nfs = 0x6969, cifs = static_cast<long>(0xFF534D42), smb2 = static_cast<long>(0xFE534D42);
    struct statfs system {};
    if (::fstatfs(*named, &system) == 0 && (system.f_type == fuse || system.f_type == nfs || system.f_type == cifs || system.f_type == smb2))
        return fail(Code::invalid, "read", path, "on a FUSE or network file system, which can hang its reader");
    return status;
}

Result<File> read_regular(const Fd& named, const std::string& path, std::size_t limit) {
    const auto status = TRY(regular(named, path));
    if (static_cast<std::uint64_t>(status.st_size) > limit)
        return fail(Code::limit, "read", path, fmt::format("{} bytes, the limit is {}", status.st_size, limit));
    Fd fd{::open(fmt::format("/proc/self/fd/{}", *named).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    // One byte more than it should need: the end is then seen without growing, which would copy a large file.
    File file{{}, stamp_of(status), status.st_uid, status.st_gid, status.st_mode};
    file.text.resize_and_overwrite(static_cast<std::size_t>(status.st_size) + 1, [](char*, std::size_t size) { return size; });
    std::size_t have = 0;
    for (;;) {
        if (have == file.text.size()) {  // one byte more tells a file that grew, or one of /proc, whose size says nothing
            if (have > limit) return fail(Code::limit, "read", path, fmt::format("longer than {} bytes", limit));
            file.text.resize(have + (status.st_size == 0 ? 4096 : 1));
        }
        const auto got = ::read(*fd, file.text.data() + have, file.text.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read", path);
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    file.text.resize(have);
    return file;
}

std::pair<std::string, std::string> split(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return {".", path};
    return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

Result<std::string> link_target(const Fd& link, const std::string& path) {
    std::string target(PATH_MAX, '\0');
    const auto length = ::readlinkat(*link, "", target.data(), target.size());
    if (length < 0) return fail_errno("read link", path);
    target.resize(static_cast<std::size_t>(length));
    return target;
}

void put_before(std::deque<std::string>& parts, std::string_view path) {
    std::deque<std::string> head;
    while (!path.empty()) {
        const auto slash = path.find('/');
        const auto part = path.substr(0, slash);
        if (!part.empty() && part != ".") head.emplace_back(part);
        path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    }
    parts.insert(parts.begin(), head.begin(), head.end());
}

Result<> write_all(const Fd& fd, std::string_view contents, const std::string& path) {
    while (!contents.empty()) {
        const auto wrote = ::write(*fd, contents.data(), contents.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail_errno("write", path);
        contents.remove_prefix(static_cast<std::size_t>(wrote));
    }
    return {};
}

Result<Fd> lock_file(const std::string& path) {
    constexpr auto patience = std::chrono::seconds(10);
    Fd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!fd) return fail_errno("lock", path);
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (::flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return fail_errno("lock", path);
        if (std::chrono::steady_clock::now() > give_up) return fail(Code::conflict, "lock", path, "another promwarden has held it for ten seconds");
        ::poll(nullptr, 0, 20);
    }
    return fd;
}

Result<File> read_file(const std::string& path, std::size_t limit) {
    Fd named{::open(path.c_str(), O_PATH | O_CLOEXEC)};
    if (!named) return fail_errno("open", path);
    return read_regular(named, path, limit);
}

Result<Fd> open_regular(const std::string& path) {
    Fd named{::open(path.c_str(), O_PATH | O_CLOEXEC)};
    if (!named) return fail_errno("open", path);
    TRY(regular(named, path));
    Fd fd{::open(fmt::format("/proc/self/fd/{}", *named).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    return fd;
}

Result<File> read_trusted_file(const std::string& path, std::size_t limit) {
    const auto named = TRY(walk_trusted(path));
    return read_regular(named, path, limit);
}

Result<FileStamp> trusted_stamp(const std::string& path) {
    const auto named = TRY(walk_trusted(path));
    return stamp_of(TRY(regular(named, path)));
}

Result<std::vector<std::string>> list_trusted_directory(const std::string& path, std::string_view suffix) {
    std::vector<std::string> names;
    auto named = walk_trusted(path);
    if (!named) {
        if (named.error().code == Code::missing) return names;
        return std::unexpected(named.error());
    }
    Fd fd{::openat(**named, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    const Handle<DIR, ::closedir> directory{::fdopendir(*fd)};
    if (!directory) return fail_errno("open", path);
    (void)fd.release();  // the stream owns it now
    errno = 0;
    while (const dirent* entry = ::readdir(directory.get()))
        if (std::string_view name = entry->d_name; name.ends_with(suffix) && !name.starts_with('.')) names.emplace_back(name);
    if (errno != 0) return fail_errno("list", path);
    std::ranges::sort(names);
    return names;
}

Result<> publish_file(const std::string& path, std::string_view contents, mode_t mode) {
    const auto [parent, name] = split(path);
    const Fd directory{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) return fail_errno("open", parent);
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) return fail_errno("write", path);
    const std::string temporary = fmt::format(".{}.{:016x}", name, random);
    const Fd fd{::openat(*directory, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!fd) return fail_errno("create", parent + "/" + temporary);
    auto written = write_all(fd, contents, path);
    if (written && ::fchmod(*fd, mode) != 0) written = fail_errno("set mode of", path);
    if (written && ::fsync(*fd) != 0) written = fail_errno("sync", path);
    if (written && ::renameat(*directory, temporary.c_str(), *directory, name.c_str()) != 0) written = fail_errno("rename", path);
    if (!written) {
        ::unlinkat(*directory, temporary.c_str(), 0);
        return written;
    }
    if (::fsync(*directory) != 0) return fail_errno("sync", parent);
    return {};
}

Result<> remove_file(const std::string& path) {
    const auto [parent, name] = split(path);
    const Fd directory{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) return errno == ENOENT ? Result<>{} : fail_errno("open", parent);
    if (::unlinkat(*directory, name.c_str(), 0) != 0) return errno == ENOENT ? Result<>{} : fail_errno("remove", path);
    if (::fsync(*directory) != 0) return fail_errno("sync", parent);
    return {};
}

Result<> make_directory(const std::string& path, mode_t mode) {
    if (::mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return {};
    if (errno != ENOENT) return fail_errno("make directory", path);
    const auto [parent, name] = split(path);
    if (parent == path) return fail_errno("make directory", path, ENOENT);
    TRY(make_directory(parent, 0755));
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return fail_errno("make directory", path);
    return {};
}

}  // namespace promwarden
