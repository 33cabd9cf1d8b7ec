#include "walk.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <deque>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace promwarden::host {

namespace {

constexpr int most_links = 40;
constexpr std::size_t most_parts = 256;
constexpr std::size_t most_entries = 200'000;  // of all directories that globs made a walker list
constexpr std::size_t most_listings = 2000;
constexpr std::size_t most_matches = 1000;
constexpr std::size_t most_acl = 8192;

std::string by_descriptor(const Fd& fd) { return fmt::format("/proc/self/fd/{}", *fd); }

/// Mode, owner, device and mount of an O_PATH descriptor, from what the kernel has in memory.
Result<FileStatus> status_of(const Fd& fd, const std::string& path) {
    struct statx raw {};
    if (::statx(*fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID, &raw) != 0) return fail_errno("look at", path);
    FileStatus status;
    using Type = FileStatus::Type;
    status.type = S_ISREG(raw.stx_mode) ? Type::regular : S_ISDIR(raw.stx_mode) ? Type::directory : S_ISLNK(raw.stx_mode) ? Type::link : Type::other;
    status.owner = raw.stx_uid;
    status.group = raw.stx_gid;
    status.mode = raw.stx_mode & 07777U;
    status.size = raw.stx_size;
    status.modified = raw.stx_mtime.tv_sec;
    status.major = raw.stx_dev_major;
    status.minor = raw.stx_dev_minor;
    status.mount = raw.stx_mnt_id;
    status.encrypted = (raw.stx_attributes & STATX_ATTR_ENCRYPTED) != 0;
    return status;
}

/// The access list, where there is more than the mode says. A file system without lists has none.
std::vector<AclEntry> acl_of(const Fd& fd) {
    std::array<char, most_acl> bytes{};
    const auto size = ::getxattr(by_descriptor(fd).c_str(), "system.posix_acl_access", bytes.data(), bytes.size());
    if (size <= 0) return {};
    auto entries = parse_acl({bytes.data(), static_cast<std::size_t>(size)});
    return entries ? *std::move(entries) : std::vector<AclEntry>{};
}

std::string joined(const std::string& directory, std::string_view name) { return directory == "/" ? fmt::format("/{}", name) : fmt::format("{}/{}", directory, name); }

}  // namespace

/// Where a walk is: the directories above, the last of them open.
struct Walker::Way {
    struct Place {
        Fd fd;
        int step = 0;
    };
    const Walker& walker;
    NamedFile& file;
    const Identity* as;
    std::deque<std::string> parts;
    std::vector<Place> above;
    Fd leaf;
    int links = 0;
    std::size_t taken = 0;

    const Step& here() const { return file.steps[static_cast<std::size_t>(above.back().step)]; }

    Result<> start() {
        Fd root{::openat(*walker.root_, ".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
        if (!root) return fail_errno("open", "/");
        auto status = TRY(status_of(root, "/"));
        status.acl = acl_of(root);
        file.steps.push_back({"/", std::move(status), -1});
        above.push_back({std::move(root), 0});
        put_before(parts, file.path);
        return {};
    }

    Result<> step() {
        const std::string part = std::move(parts.front());
        parts.pop_front();
        if (++taken > most_parts) return fail(Code::limit, "walk to", file.path, fmt::format("more than {} steps", most_parts));
        if (part == "..") {
            if (above.size() > 1) above.pop_back();
            return {};
        }
        if (const auto type = walker.hanging(here().status.mount))
            return fail(Code::untrusted, "look at", file.path, fmt::format("{} is {}, which can hang its reader", here().path, *type));
        if (as != nullptr && !may(*as, here().status, Right::search)) return fail_errno("open", file.path, EACCES);
        const auto path = joined(here().path, part);
        Fd next{::openat(*above.back().fd, part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        if (!next) return fail_errno("open", path);
        auto status = TRY(status_of(next, path));
        const auto type = status.type;
        if (type != FileStatus::Type::link && !walker.hanging(status.mount)) status.acl = acl_of(next);
        file.steps.push_back({path, std::move(status), above.back().step});
        if (type == FileStatus::Type::link) return follow(next, path);
        if (type == FileStatus::Type::directory) above.push_back({std::move(next), static_cast<int>(file.steps.size()) - 1});
        else if (!parts.empty()) return fail_errno("open", file.path, ENOTDIR);
        else leaf = std::move(next);
        return {};
    }

    Result<> follow(const Fd& link, const std::string& path) {
        if (++links > most_links) return fail_errno("open", file.path, ELOOP);
        const auto target = TRY(link_target(link, path));
        if (target.starts_with('/')) above.erase(above.begin() + 1, above.end());
        put_before(parts, target);
        return {};
    }

    /// The last step is what was reached, or the directory in which the next name is missing.
    Fd finish() {
        if (leaf) return std::move(leaf);
        if (above.empty()) return {};
        if (static_cast<std::size_t>(above.back().step) + 1 != file.steps.size()) file.steps.push_back(Step(here()));
        if (const auto type = walker.hanging(here().status.mount); type && !file.problem)
            file.problem = fail(Code::untrusted, "look at", file.path, fmt::format("it is on {}, which can hang its reader", *type)).error();
        return std::move(above.back().fd);
    }
};

namespace {

}  // namespace

std::string host_root(const Places& places) {
    const auto namespace_of = [&](const std::string& process) {
        struct stat status {};
        return ::stat(fmt::format("{}/{}/ns/mnt", places.proc, process).c_str(), &status) == 0 ? status.st_ino : 0;
    };
    if (places.seen_from == 0) return {};
    const auto own = namespace_of("self"), theirs = namespace_of(std::to_string(places.seen_from));
    return own == 0 || theirs == 0 || own == theirs ? std::string() : fmt::format("{}/{}/root", places.proc, places.seen_from);
}

Result<Walker> Walker::open(const Places& places) {
    const auto outside = host_root(places);
    const std::string path = outside.empty() ? (places.root.empty() ? "/" : places.root) : outside + places.root;
    Walker walker;
    walker.root_ = Fd{::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!walker.root_) return fail_errno("open", path);
    walker.root_mount_ = TRY(status_of(walker.root_, path)).mount;
    walker.mounts_ = read_mounts(outside.empty() ? places.proc + "/self" : fmt::format("{}/{}", places.proc, places.seen_from));
    walker.moved_ = !places.root.empty() && places.root != "/";
    return walker;
}

std::optional<std::string> Walker::hanging(std::uint64_t mount) const {
    if (mount == root_mount_) return std::nullopt;
    const auto found = mounts_.find(mount);
    if (found == mounts_.end() || !may_hang(found->second.type)) return std::nullopt;
    return found->second.type;
}

Fd Walker::walk(NamedFile& file, const Identity* as) const {
    file.steps.clear();
    file.problem.reset();
    Way way{*this, file, as, {}, {}, {}, 0, 0};
    auto done = file.path.starts_with('/') ? way.start() : fail(Code::invalid, "walk to", file.path, "not an absolute path");
    while (done && !way.parts.empty()) done = way.step();
    if (!done) file.problem = std::move(done).error();
    return way.finish();
}

Result<std::string> Walker::read(const Fd& reached, const NamedFile& file, std::size_t limit) {
    const auto* status = file.status();
    if (status == nullptr || !reached) return fail(Code::missing, "read", file.path);
    if (status->type == FileStatus::Type::directory) return fail_errno("read", file.path, EISDIR);
    if (status->type != FileStatus::Type::regular) return fail(Code::invalid, "read", file.path, "not a regular file");
    if (status->size > limit) return fail(Code::limit, "read", file.path, fmt::format("{} bytes, the limit is {}", status->size, limit));
    // What the descriptor stands for is known: a regular file cannot make this wait.
    const Fd fd{::open(by_descriptor(reached).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
    if (!fd) return fail_errno("open", file.path);
    std::string text(status->size + 1, '\0');
    std::size_t have = 0;
    for (;;) {
        if (have == text.size()) {
            if (have > limit) return fail(Code::limit, "read", file.path, fmt::format("longer than {} bytes", limit));
            text.resize(have + 4096);
        }
        const auto got = ::read(*fd, text.data() + have, text.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read", file.path);
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    text.resize(have);
    return text;
}

// ---- globs ----------------------------------------------------------------------------------------------------------

Result<std::vector<std::string>> Walker::list(const std::string& path, const Identity* as) const {
    if (++listings_ > most_listings) return fail(Code::limit, "list", path, fmt::format("more than {} directories", most_listings));
    NamedFile directory;
    directory.path = path;
    const auto reached = walk(directory, as);
    std::vector<std::string> names;
    if (directory.problem) {
        if (directory.problem->code == Code::missing) return names;
        return std::unexpected(*directory.problem);
    }
    if (directory.status()->type != FileStatus::Type::directory) return names;
    if (as != nullptr && !may(*as, *directory.status(), Right::read)) return fail_errno("list", path, EACCES);
    Fd fd{::openat(*reached, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) return fail_errno("list", path);
    const Handle<DIR, ::closedir> stream{::fdopendir(*fd)};
    if (!stream) return fail_errno("list", path);
    (void)fd.release();  // the stream owns it now
    errno = 0;
    while (const dirent* entry = ::readdir(stream.get())) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..") continue;
        if (++entries_ > most_entries) return fail(Code::limit, "list", path, fmt::format("more than {} entries", most_entries));
        names.emplace_back(name);
    }
    if (errno != 0) return fail_errno("list", path);
    std::ranges::sort(names);
    return names;
}

/// Each path grows by one component, or by every entry that the component stands for.
Result<> Walker::grow(std::vector<std::string>& paths, const std::string& part, const Identity* as) const {
    std::vector<std::string> grown;
    for (const auto& path : paths) {
        if (!has_wildcards(part)) {
            grown.push_back(joined(path, part));
            continue;
        }
        for (const auto& name : TRY(list(path, as))) {
            if (::fnmatch(part.c_str(), name.c_str(), 0) != 0) continue;
            if (grown.size() >= most_matches) return fail(Code::limit, "list", joined(path, part), fmt::format("more than {} files", most_matches));
            grown.push_back(joined(path, name));
        }
    }
    paths = std::move(grown);
    return {};
}

Result<std::vector<std::string>> Walker::expand(const std::string& pattern, const Identity* as) const {
    std::deque<std::string> parts;
    put_before(parts, pattern);
    if (parts.size() > most_parts) return fail(Code::limit, "list", pattern, "too many components");
    std::vector<std::string> paths{"/"};
    for (const auto& part : parts) TRY(grow(paths, part, as));
    return paths;
}

bool has_wildcards(std::string_view path) { return path.find_first_of("*?[") != std::string_view::npos; }

std::string resolve(const std::string& directory, const std::string& path) {
    return path.starts_with('/') ? path : joined(directory.empty() ? "/" : directory, path);
}

std::string parent_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

}  // namespace promwarden::host
