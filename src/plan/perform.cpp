// One deed, by descriptor: every component of its name is opened without following links and judged on what was opened.

#include <algorithm>
#include <set>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "promwarden/make.hpp"

namespace promwarden {

namespace {

constexpr std::size_t largest_text = 64 << 20;
constexpr const char* acl_name = "system.posix_acl_access";

// ---- finding a name -------------------------------------------------------------------------------------------------

/// A name in a directory that was walked to.
struct Place {
    Fd directory;
    std::string name;
    std::string path;           // of the whole, for errors
    std::set<uid_t> exposed_to; // who but root could have put another directory on the way
    bool open_to_all = false;   // members of a group, or everybody, could
};

Result<struct stat> status_of(const Fd& fd, const std::string& path) {
    struct stat status {};
    if (::fstat(*fd, &status) != 0) return fail_errno("look at", path);
    return status;
}

void judge_directory(Place& place, const struct stat& status) {
    if (status.st_uid != 0) place.exposed_to.insert(status.st_uid);
    if ((status.st_mode & 022) != 0 && (status.st_mode & S_ISVTX) == 0) place.open_to_all = true;
}

Result<Place> find(const Ground& ground, const std::string& path) {
    std::deque<std::string> parts;
    put_before(parts, path);
    if (!path.starts_with('/') || parts.empty() || std::ranges::find(parts, "..") != parts.end()) return fail(Code::invalid, "change", path, "not an absolute path");
    Place place{Fd(::open(ground.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), parts.back(), path, {}, false};
    if (!place.directory) return fail_errno("open", ground.root);
    parts.pop_back();
    for (const auto& part : parts) {
        judge_directory(place, TRY(status_of(place.directory, path)));
        Fd next{::openat(*place.directory, part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        if (!next) return fail_errno("open", path);
        if (const auto status = TRY(status_of(next, path)); !S_ISDIR(status.st_mode)) return fail(Code::untrusted, "change", path, fmt::format("'{}' is {}", part, S_ISLNK(status.st_mode) ? "a symbolic link" : "no directory"));
        place.directory = std::move(next);
    }
    judge_directory(place, TRY(status_of(place.directory, path)));
    return place;
}

/// For whatever gets a name: nobody but root may be able to put another thing there.
Result<> only_root(const Place& place) {
    if (place.open_to_all || !place.exposed_to.empty())
        return fail(Code::untrusted, "change", place.path, place.open_to_all ? "others can write a directory on the way to it" : fmt::format("uid {} owns a directory on the way to it", *place.exposed_to.begin()));
    return {};
}

// ---- access ---------------------------------------------------------------------------------------------------------

/// Through its descriptor: the functions that take one refuse those that were opened by O_PATH.
std::string by_descriptor(const Fd& fd) { return fmt::format("/proc/self/fd/{}", *fd); }

Result<std::vector<AclEntry>> list_of(const Fd& fd, const std::string& path) {
    std::string bytes(4096, '\0');
    const auto size = ::getxattr(by_descriptor(fd).c_str(), acl_name, bytes.data(), bytes.size());
    if (size < 0) return errno == ENODATA || errno == EOPNOTSUPP ? Result<std::vector<AclEntry>>(std::vector<AclEntry>{}) : fail_errno("read access list of", path);
    return parse_acl(std::string_view(bytes).substr(0, static_cast<std::size_t>(size)));
}

/// Somebody who owns a directory on the way could have put anything of theirs there. Taking bits from what is theirs is what they could do themselves.
Result<> harmless(const Place& place, const struct stat& status, const SetAccess& set) {
    if (!place.open_to_all && place.exposed_to.empty()) return {};
    const bool theirs = !place.open_to_all && place.exposed_to == std::set<uid_t>{status.st_uid};
    const bool only_takes = (set.after.mode & ~set.before.mode) == 0 && set.after.owner == set.before.owner && set.after.group == set.before.group && (set.after.acl.empty() || set.after.acl == set.before.acl);
    return theirs && only_takes ? Result<>{} : only_root(place);
}

/// Never wider than before or after, and never closed to whom both let in: the service may open it at any moment.
Result<> change_access(const Fd& fd, const FileAccess& from, const FileAccess& to, const std::string& path) {
    const auto link = by_descriptor(fd);
    const auto meanwhile = (from.mode & ~mode_t{070}) | (from.mode & to.mode & 070);
    const bool moves = from.owner != to.owner || from.group != to.group;
    if (moves && ::chmod(link.c_str(), meanwhile) != 0) return fail_errno("set mode of", path);
    if (moves && ::fchownat(*fd, "", to.owner, to.group, AT_EMPTY_PATH) != 0) return fail_errno("set owner of", path);
    if (::chmod(link.c_str(), to.mode) != 0) return fail_errno("set mode of", path);
    if (from.acl == to.acl) return {};
    const auto bytes = acl_bytes(to.acl);
    const int done = to.acl.empty() ? ::removexattr(link.c_str(), acl_name) : ::setxattr(link.c_str(), acl_name, bytes.data(), bytes.size(), 0);
    if (done != 0 && !(to.acl.empty() && errno == ENODATA)) return fail_errno("set access list of", path);
    return {};
}

Result<bool> do_it(const Ground& ground, const Change& change, const SetAccess& set) {
    const auto place = TRY(find(ground, change.subject));
    const Fd fd{::openat(*place.directory, place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!fd) return fail_errno("open", change.subject);
    const auto status = TRY(status_of(fd, change.subject));
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return fail(Code::untrusted, "change", change.subject, "it is neither a file nor a directory");
    const FileAccess now{status.st_uid, status.st_gid, status.st_mode & 07777, TRY(list_of(fd, change.subject))};
    if (now == set.after) return false;
    if (now != set.before) return fail(Code::stale, "change", change.subject, fmt::format("somebody else changed it: it is {} now", to_text(now)));
    TRY(harmless(place, status, set));
    TRY(change_access(fd, set.before, set.after, change.subject));
    return true;
}

// ---- texts ----------------------------------------------------------------------------------------------------------

struct Found {
    std::string text;
    struct stat status {};
    std::vector<AclEntry> acl;
};

/// A regular file of that name; nullopt: nothing.
Result<std::optional<Found>> read(const Place& place) {
    const Fd named{::openat(*place.directory, place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!named && errno == ENOENT) return std::nullopt;
    if (!named) return fail_errno("open", place.path);
    Found found{{}, TRY(status_of(named, place.path)), {}};
    if (S_ISLNK(found.status.st_mode)) return fail(Code::invalid, "change", place.path, "it is a symbolic link: whoever made it manages the file");
    auto file = TRY(read_file(by_descriptor(named), largest_text));
    found.text = std::move(file.text);
    found.acl = TRY(list_of(named, place.path));
    return found;
}

Result<std::string> text_of(const Ground& ground, const Contents& contents) {
    std::string text;
    for (const auto& piece : contents) {
        if (piece.from.empty()) {
            text += piece.text;
            continue;
        }
        auto from = TRY(find(ground, piece.from));
        TRY(only_root(from));
        auto found = TRY(read(from));
        if (!found) return fail(Code::missing, "read", piece.from);
        const auto part = piece.part.value_or(Piece::Part{0, found->text.size()});
        if (part.at > found->text.size() || part.length > found->text.size() - part.at) return fail(Code::stale, "read", piece.from, "somebody else changed it");
        text += std::string_view(found->text).substr(part.at, part.length);
    }
    return text;
}

/// The directory for a new file, where it is missing. It has its group and mode before it has its name.
Result<> make_directory_for(const Ground& ground, const std::string& path, const FileAccess& access, mode_t mode) {
    const auto slash = path.rfind('/');
    const auto place = TRY(find(ground, path.substr(0, slash)));
    TRY(only_root(place));
    if (::faccessat(*place.directory, place.name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) return {};
    const auto unfinished = fmt::format(".{}.promwarden", place.name);
    ::unlinkat(*place.directory, unfinished.c_str(), AT_REMOVEDIR);
    if (::mkdirat(*place.directory, unfinished.c_str(), 0700) != 0) return fail_errno("make directory", place.path);
    const Fd made{::openat(*place.directory, unfinished.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    const bool done = made && ::fchown(*made, 0, access.group) == 0 && ::fchmod(*made, mode) == 0 &&
                      ::renameat2(*place.directory, unfinished.c_str(), *place.directory, place.name.c_str(), RENAME_NOREPLACE) == 0;
    const int error = errno;
    if (!done) ::unlinkat(*place.directory, unfinished.c_str(), AT_REMOVEDIR);
    if (!done) return fail_errno("make directory", place.path, error);
    const Fd above{::openat(*place.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!above || ::fsync(*above) != 0) return fail_errno("sync", place.path);
    return {};
}

Result<> sync(const Place& place) {
    const Fd directory{::openat(*place.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory || ::fsync(*directory) != 0) return fail_errno("sync", place.path);
    return {};
}

std::string temporary_prefix(const Place& place) { return fmt::format(".{}.promwarden-", place.name); }

constexpr const char* own_directory = "promwarden";  // beside what is written

/// What a run left that was killed before its file had its name.
void sweep(const Place& place) {
    const auto prefix = temporary_prefix(place);
    for (const auto* name : {".", own_directory}) {
        const int fd = ::openat(*place.directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        const Handle<DIR, ::closedir> directory(fd < 0 ? nullptr : ::fdopendir(fd));
        while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr)
            if (std::string_view(entry->d_name).starts_with(prefix)) ::unlinkat(fd, entry->d_name, 0);
    }
}

/// In a set-group-ID directory a file has its group from the start, so that a sandbox that gives no groups can write it all the same. Our own directory beside it is one.
Fd create(const Place& place, const std::string& temporary, gid_t group) {
    constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const Fd own{::openat(*place.directory, own_directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    struct stat status {};
    const bool gives = own && ::fstat(*own, &status) == 0 && status.st_uid == 0 && status.st_gid == group && (status.st_mode & (S_ISGID | 022)) == S_ISGID;
    if (!gives) return Fd{::openat(*place.directory, temporary.c_str(), flags, 0600)};
    Fd fd{::openat(*own, temporary.c_str(), flags, 0600)};
    if (!fd || ::renameat(*own, temporary.c_str(), *place.directory, temporary.c_str()) == 0) return fd;
    ::unlinkat(*own, temporary.c_str(), 0);
    return {};
}

/// Complete, durable and judged under another name; then, where nothing changed meanwhile, by one rename.
Result<> write(const Ground& ground, const Change& change, const Place& place, std::string_view text, const std::optional<Found>& before, const FileAccess& access) {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) return fail_errno("draw a name", "");
    const auto temporary = fmt::format("{}{:016x}", temporary_prefix(place), random);
    const auto wanted = before ? FileAccess{before->status.st_uid, before->status.st_gid, before->status.st_mode & 07777, before->acl} : access;
    const Fd fd = create(place, temporary, wanted.group);
    if (!fd) return fail_errno("create", place.path);
    const auto finish = [&]() -> Result<> {
        TRY(write_all(fd, text, place.path));
        if (::fchown(*fd, wanted.owner, wanted.group) != 0) return fail_errno("set owner of", place.path);
        if (::fchmod(*fd, wanted.mode) != 0) return fail_errno("set mode of", place.path);
        const auto list = acl_bytes(wanted.acl);
        if (!wanted.acl.empty() && ::fsetxattr(*fd, acl_name, list.data(), list.size(), 0) != 0) return fail_errno("set access list of", place.path);
        if (::fsync(*fd) != 0) return fail_errno("sync", place.path);
        if (change.judge != Judge::nobody && ground.judge) TRY(ground.judge(change.judge, change.subject.substr(0, change.subject.rfind('/') + 1) + temporary, change.subject));
        const auto still = TRY(read(place));
        if (still.has_value() != before.has_value() || (still && still->text != before->text)) return fail(Code::stale, "change", place.path, "somebody changed it meanwhile");
        if (::renameat(*place.directory, temporary.c_str(), *place.directory, place.name.c_str()) != 0) return fail_errno("rename", place.path);
        return {};
    };
    if (const auto done = finish(); !done) {
        ::unlinkat(*place.directory, temporary.c_str(), 0);
        return done;
    }
    return sync(place);
}

Result<> remove(const Ground& ground, const Place& place, bool with_directory) {
    if (::unlinkat(*place.directory, place.name.c_str(), 0) != 0) return fail_errno("remove", place.path);
    TRY(sync(place));
    if (!with_directory) return {};
    const auto above = TRY(find(ground, place.path.substr(0, place.path.rfind('/'))));
    ::unlinkat(*above.directory, above.name.c_str(), AT_REMOVEDIR);  // stays where somebody else has a file in it
    return {};
}

Result<bool> do_it(const Ground& ground, const Change& change, const WriteFile& deed) {
    if (deed.directory && deed.after) TRY(make_directory_for(ground, change.subject, deed.access, *deed.directory));
    auto found_place = find(ground, change.subject);
    if (!found_place && found_place.error().code == Code::missing && !deed.after) return false;
    const auto place = TRY(std::move(found_place));
    TRY(only_root(place));
    sweep(place);
    const auto now = TRY(read(place));
    const auto after = deed.after ? std::optional(TRY(text_of(ground, *deed.after))) : std::nullopt;
    if (now.has_value() == after.has_value() && (!now || now->text == *after)) return false;
    const auto before = deed.before ? std::optional(TRY(text_of(ground, *deed.before))) : std::nullopt;
    if (now.has_value() != before.has_value() || (now && now->text != *before)) return fail(Code::stale, "change", change.subject, "somebody else changed it");
    if (after) TRY(write(ground, change, place, *after, now, deed.access));
    else TRY(remove(ground, place, deed.directory.has_value()));
    return true;
}

/// The bytes of one side of a splice, put together where its other side stands.
Result<std::string> spliced(const Ground& ground, const Change& change, const EditFile& deed, std::string_view now) {
    std::string text;
    std::size_t at = 0;
    for (const auto& splice : deed.splices) {
        const auto gone = TRY(text_of(ground, splice.before));
        if (splice.before_at < at || splice.before_at > now.size() || !now.substr(splice.before_at).starts_with(gone)) return fail(Code::stale, "change", change.subject, "somebody else changed it");
        text += now.substr(at, splice.before_at - at);
        text += TRY(text_of(ground, splice.after));
        at = splice.before_at + gone.size();
    }
    text += now.substr(at);
    if (sha256(text) != deed.after) return fail(Code::stale, "change", change.subject, "what was put into it is not what it was");
    return text;
}

Result<bool> do_it(const Ground& ground, const Change& change, const EditFile& deed) {
    const auto place = TRY(find(ground, change.subject));
    TRY(only_root(place));
    sweep(place);
    const auto now = TRY(read(place));
    if (!now) return fail(Code::missing, "change", change.subject);
    const auto digest = sha256(now->text);
    if (digest == deed.after) return false;
    if (digest != deed.before) return fail(Code::stale, "change", change.subject, "somebody else changed it");
    TRY(write(ground, change, place, TRY(spliced(ground, change, deed, now->text)), now, {}));
    return true;
}

// ---- links ----------------------------------------------------------------------------------------------------------

Result<std::optional<std::string>> target_of(const Place& place) {
    const Fd named{::openat(*place.directory, place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    if (!named && errno == ENOENT) return std::nullopt;
    if (!named) return fail_errno("open", place.path);
    if (const auto status = TRY(status_of(named, place.path)); !S_ISLNK(status.st_mode)) return fail(Code::stale, "change", place.path, "it is no symbolic link");
    auto target = TRY(link_target(named, place.path));
    return target;
}

Result<bool> do_it(const Ground& ground, const Change& change, const PointLink& deed) {
    const auto place = TRY(find(ground, change.subject));
    TRY(only_root(place));
    const auto now = TRY(target_of(place));
    if (now == deed.after) return false;
    if (now != deed.before) return fail(Code::stale, "change", change.subject, "somebody else changed it");
    if (!deed.after) {
        TRY(remove(ground, place, false));
        return true;
    }
    const auto temporary = fmt::format(".{}.promwarden", place.name);
    ::unlinkat(*place.directory, temporary.c_str(), 0);
    if (::symlinkat(deed.after->c_str(), *place.directory, temporary.c_str()) != 0) return fail_errno("link", place.path);
    if (::renameat(*place.directory, temporary.c_str(), *place.directory, place.name.c_str()) != 0) return fail_errno("rename", place.path);
    TRY(sync(place));
    return true;
}

Result<bool> do_it(const Ground& /*ground*/, const Change& change, std::monostate) { return fail(Code::invalid, "change", change.subject, "nothing is known of how"); }

}  // namespace

Result<bool> perform(const Ground& ground, const Change& change) {
    return std::visit([&](const auto& deed) { return do_it(ground, change, deed); }, change.deed);
}

}  // namespace promwarden
