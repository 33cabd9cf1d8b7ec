// Generations on disk. The order of the steps is the promise: files complete and durable, then the directory that holds them, then its name.

#include <algorithm>
#include <charconv>
#include <optional>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "promwarden/tls.hpp"

namespace promwarden::tls {

namespace {

constexpr std::size_t largest_file = 1 << 20;
constexpr std::string_view unfinished = ".tmp-";

Result<std::string> fresh_name() {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) return fail_errno("draw a name", "");
    return fmt::format("{}{:016x}", unfinished, random);
}

/// A file without a name yet, where the file system can (nobody can open what has none); else one with a name nobody expects, closed to others.
struct Unnamed {
    Fd fd;
    std::string name;  // "" where it has none
};
Result<Unnamed> make_unnamed(int directory, const std::string& path) {
    Unnamed made{Fd(::openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600)), {}};
    if (made.fd) return made;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL) return fail_errno("create", path);
    made.name = TRY(fresh_name());
    made.fd = Fd(::openat(directory, made.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!made.fd) return fail_errno("create", path);
    return made;
}

/// Complete, durable, with its mode; then its name. Where the name is taken (`replace`), by a rename over it.
Result<> write_file(int from, int to, const std::string& name, std::string_view contents, mode_t mode, const std::string& path, bool replace, std::optional<gid_t> group = {}) {
    auto made = TRY(make_unnamed(from, path));
    const auto finish = [&]() -> Result<> {
        TRY(write_all(made.fd, contents, path));
        if (group && ::fchown(*made.fd, static_cast<uid_t>(-1), *group) != 0) return fail_errno("set group of", path);
        if (::fchmod(*made.fd, mode) != 0) return fail_errno("set mode of", path);
        if (::fsync(*made.fd) != 0) return fail_errno("sync", path);
        if (made.name.empty()) {
            auto temporary = replace ? TRY(fresh_name()) : name;
            if (::linkat(AT_FDCWD, fmt::format("/proc/self/fd/{}", *made.fd).c_str(), replace ? from : to, temporary.c_str(), AT_SYMLINK_FOLLOW) != 0)
                return fail_errno("link", path);
            if (!replace) return {};
            made.name = std::move(temporary);
        }
        const int renamed = replace ? ::renameat(from, made.name.c_str(), to, name.c_str()) : ::renameat2(from, made.name.c_str(), to, name.c_str(), RENAME_NOREPLACE);
        if (renamed != 0) return fail_errno("rename", path);
        made.name.clear();
        return {};
    };
    auto done = finish();
    if (!done && !made.name.empty()) ::unlinkat(from, made.name.c_str(), 0);
    return done;
}

Result<> sync(int fd, const std::string& path) {
    if (::fsync(fd) != 0) return fail_errno("sync", path);
    return {};
}

/// The directory itself, by the rule for files that are obeyed: nobody but root (or the caller) could have put another one in its place.
Result<Fd> open_directory(const std::string& path) {
    TRY(list_trusted_directory(path, "\n"));
    Fd fd{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    return fd;
}

Result<std::vector<std::string>> names_in(int directory, const std::string& path) {
    Fd copy{::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!copy) return fail_errno("open", path);
    const Handle<DIR, ::closedir> stream{::fdopendir(*copy)};
    if (!stream) return fail_errno("open", path);
    (void)copy.release();  // the stream owns it now
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream.get()))
        if (std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
    if (errno != 0) return fail_errno("list", path);
    return names;
}

/// A directory of ours with the files in it; it holds no others.
Result<> remove_directory(int parent, const std::string& name, const std::string& path) {
    if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};  // a file
    const Fd directory{::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!directory) return fail_errno("open", path);
    for (const auto& file : TRY(names_in(*directory, path)))
        if (::unlinkat(*directory, file.c_str(), 0) != 0) return fail_errno("remove", path + "/" + file);
    if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return fail_errno("remove", path);
    return sync(parent, path);
}

template <class Buffer>
Result<Buffer> read_at(int directory, const std::string& name, const std::string& path) {
    const Fd fd{::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    if (!fd) return fail_errno("open", path);
    struct stat status {};
    if (::fstat(*fd, &status) != 0) return fail_errno("open", path);
    if (!S_ISREG(status.st_mode)) return fail(Code::invalid, "read", path, "not a regular file");
    if (static_cast<std::size_t>(status.st_size) > largest_file) return fail(Code::limit, "read", path, "far too long");
    Buffer buffer(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t have = 0;
    while (have < buffer.size()) {
        const auto got = ::read(*fd, buffer.data() + have, buffer.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno("read", path);
        if (got == 0) return fail(Code::stale, "read", path, "it became shorter");
        have += static_cast<std::size_t>(got);
    }
    return buffer;
}

std::optional<unsigned> number_of(std::string_view name) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size() || number == 0 || name.starts_with('0') || number > 1'000'000'000) return std::nullopt;
    return number;
}

/// Made with its mode at once: where its parent hands on a group it has the set-group-ID bit then, which a service under RestrictSUIDSGID could not set itself.
Result<> make_with_mode(const std::string& directory, mode_t mode) {
    const auto parent = directory.substr(0, directory.rfind('/'));
    const mode_t before = ::umask(0);
    const int made = ::mkdir(directory.c_str(), mode);
    const int error = made == 0 ? 0 : errno;
    ::umask(before);
    if (error == EEXIST) return {};
    if (error == ENOENT && !parent.empty()) {
        TRY(make_with_mode(parent, mode));
        return make_with_mode(directory, mode);
    }
    if (error != 0) return fail_errno("make directory", directory, error);
    return sync(*TRY(open_directory(parent)), parent);
}

}  // namespace

Result<Store> Store::open(const std::string& directory, mode_t directory_mode, mode_t key_mode) {
    TRY(make_with_mode(directory, directory_mode));
    auto fd = TRY(open_directory(directory));
    struct stat status {};
    if (::fstat(*fd, &status) != 0) return fail_errno("open", directory);
    if ((status.st_mode & 0777) != directory_mode && ::fchmod(*fd, directory_mode | (status.st_mode & S_ISGID)) != 0) return fail_errno("set mode of", directory);
    Store store(directory, std::move(fd), directory_mode, key_mode);
    TRY(store.sweep());
    return store;
}

Result<Store> Store::look(const std::string& directory) {
    auto fd = TRY(open_directory(directory));
    return Store(directory, std::move(fd), 0, 0);
}

Result<> Store::sweep() const {
    for (const auto& name : TRY(names_in(*fd_, directory_))) {
        if (name.starts_with(unfinished)) {
            TRY(remove_directory(*fd_, name, directory_ + "/" + name));
            continue;
        }
        if (!number_of(name)) continue;
        const Fd generation{::openat(*fd_, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
        if (!generation) return fail_errno("open", directory_ + "/" + name);
        for (const auto& file : TRY(names_in(*generation, directory_ + "/" + name)))
            if (file.starts_with(unfinished) && ::unlinkat(*generation, file.c_str(), 0) != 0) return fail_errno("remove", directory_ + "/" + name + "/" + file);
    }
    return {};
}

Result<std::vector<unsigned>> Store::generations() const {
    std::vector<unsigned> numbers;
    for (const auto& name : TRY(names_in(*fd_, directory_)))
        if (const auto number = number_of(name)) numbers.push_back(*number);
    std::ranges::sort(numbers);
    return numbers;
}

Result<unsigned> Store::add(std::string_view key_pem, std::string_view chain_pem) const {
    const auto existing = TRY(generations());
    const unsigned number = existing.empty() ? 1 : existing.back() + 1;
    const auto name = TRY(fresh_name());
    const auto path = directory_ + "/" + name;
    if (::mkdirat(*fd_, name.c_str(), 0700) != 0) return fail_errno("make directory", path);
    const auto fill = [&]() -> Result<> {
        const Fd made{::openat(*fd_, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
        if (!made) return fail_errno("open", path);
        TRY(write_file(*made, *made, "key.pem", key_pem, key_mode_, path + "/key.pem", false));
        TRY(write_file(*made, *made, "cert.pem", chain_pem, 0644, path + "/cert.pem", false));
        if (view(TRY(read_at<Secret>(*made, "key.pem", path + "/key.pem"))) != key_pem || TRY(read_at<std::string>(*made, "cert.pem", path + "/cert.pem")) != chain_pem)
            return fail(Code::failed, "read back", path, "it is not what was written");
        // Its group was inherited, and so is that of the files in it: the bit is not needed any more.
        if (::fchmod(*made, directory_mode_) != 0) return fail_errno("set mode of", path);
        TRY(sync(*made, path));
        if (::renameat2(*fd_, name.c_str(), *fd_, std::to_string(number).c_str(), RENAME_NOREPLACE) != 0) return fail_errno("rename", path);
        return sync(*fd_, directory_);
    };
    if (auto filled = fill(); !filled) {
        (void)remove_directory(*fd_, name, path);  // the next start sweeps what this could not
        return std::unexpected(filled.error());
    }
    return number;
}

Result<> Store::replace_certificate(unsigned generation, std::string_view chain_pem) const {
    const auto path = directory(generation);
    const Fd at{::openat(*fd_, std::to_string(generation).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!at) return fail_errno("open", path);
    const auto before = TRY(read_at<std::string>(*at, "cert.pem", path + "/cert.pem"));
    TRY(write_file(*at, *at, "previous.pem", before, 0644, path + "/previous.pem", true));
    TRY(write_file(*at, *at, "cert.pem", chain_pem, 0644, path + "/cert.pem", true));
    return sync(*at, path);
}

Result<Secret> Store::key(unsigned generation) const {
    const auto name = std::to_string(generation) + "/key.pem";
    return read_at<Secret>(*fd_, name, directory_ + "/" + name);
}

Result<std::string> Store::certificate(unsigned generation, const char* file) const {
    const auto name = fmt::format("{}/{}", generation, file);
    return read_at<std::string>(*fd_, name, directory_ + "/" + name);
}

Result<Time> Store::made(unsigned generation) const {
    const auto name = std::to_string(generation) + "/key.pem";  // never changes after it was made
    struct stat status {};
    if (::fstatat(*fd_, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("open", directory_ + "/" + name);
    return Time(std::chrono::seconds(status.st_mtim.tv_sec));
}

Result<> Store::remove(unsigned generation) const {
    // Away with the name first: a generation that has one is complete.
    const auto name = TRY(fresh_name());
    if (::renameat(*fd_, std::to_string(generation).c_str(), *fd_, name.c_str()) != 0) return fail_errno("rename", directory(generation));
    return remove_directory(*fd_, name, directory(generation));
}

Result<> publish_through(const std::string& nursery, const std::string& path, std::string_view contents, mode_t mode, std::optional<gid_t> group) {
    const auto slash = path.rfind('/');
    const auto from = TRY(open_directory(nursery));
    const auto to = TRY(open_directory(slash == 0 ? "/" : path.substr(0, slash)));
    TRY(write_file(*from, *to, path.substr(slash + 1), contents, mode, path, true, group));
    TRY(sync(*to, path));
    return {};
}

Result<> publish_link(const std::string& path, const std::string& target) {
    const auto slash = path.rfind('/');
    const auto at = TRY(open_directory(path.substr(0, slash)));
    const auto name = TRY(fresh_name());
    if (::symlinkat(target.c_str(), *at, name.c_str()) != 0) return fail_errno("link", path);
    if (::renameat(*at, name.c_str(), *at, path.substr(slash + 1).c_str()) != 0) {
        const int error = errno;
        ::unlinkat(*at, name.c_str(), 0);
        return fail_errno("rename", path, error);
    }
    return sync(*at, path);
}

}  // namespace promwarden::tls
